"""Typed configuration: the schema, and from YAML to it."""
