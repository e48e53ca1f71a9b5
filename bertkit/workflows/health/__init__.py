"""Whether a pre-training run goes as runs of its size go, in words."""

from bertkit.workflows.health.bands import FIGURES, BandPoint, bands
from bertkit.workflows.health.of_run import bands_of, findings, reference_of
from bertkit.workflows.health.symptoms import Finding, HealthWatch, Reference

__all__ = [
    "FIGURES",
    "BandPoint",
    "Finding",
    "HealthWatch",
    "Reference",
    "bands",
    "bands_of",
    "findings",
    "reference_of",
]
