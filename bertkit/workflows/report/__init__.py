"""Runs as one HTML page: curves, health, confusion, calibration, mistakes with their texts, masked words."""
