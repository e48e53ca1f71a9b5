"""The electricity that training takes, by codecarbon, which needs no network; added up over stops and continuations."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.whole import written_whole

logger = logging.getLogger(__name__)

# Only emissions depend on the country, and they are not kept.
_ANY_COUNTRY: Final = "USA"


@dataclass(frozen=True)
class Energy:
    """What was used so far: nothing known without `by`, which names the meter; gaps are what a kill left uncounted."""

    kwh: float = 0.0
    by: str | None = None
    has_gaps: bool = False
    is_open: bool = False


def require_meter() -> None:
    """Raise ConfigError where codecarbon is not installed; says how to install it."""
    if not is_installed("codecarbon"):
        raise ConfigError(
            "every.energy needs codecarbon, which is not installed: pip install codecarbon, or leave it out"
        )


@contextmanager
def metered(file: Path) -> Iterator[None]:
    """Adds the energy this machine uses until the block ends to what `file` holds of earlier ones.

    A meter that fails is a gap and a warning, and never the end of the block.
    """
    before = read_energy(file)
    tracker, by = _started()
    opened = replace(before, by=by or before.by, is_open=True)
    _write(file, opened)
    try:
        yield
    finally:
        used = _stopped(tracker)
        if used is None:
            logger.warning("codecarbon could not measure: the energy of this part of the run is not counted")
        has_gaps = before.has_gaps or used is None
        _write(file, replace(opened, kwh=before.kwh + (used or 0.0), is_open=False, has_gaps=has_gaps))


def read_energy(file: Path) -> Energy:
    """What `metered` wrote; what a killed process did not come to write is a gap."""
    try:
        found = Energy(**json.loads(file.read_text(encoding="utf-8")))
        return replace(found, kwh=float(found.kwh), is_open=False, has_gaps=found.has_gaps or found.is_open)
    except FileNotFoundError:
        return Energy()
    except (OSError, ValueError, TypeError):
        return Energy(has_gaps=True)


def _started() -> tuple[Any, str | None]:
    """A meter that runs and its name; None where it cannot."""
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    try:
        from codecarbon import OfflineEmissionsTracker

        tracker = OfflineEmissionsTracker(
            country_iso_code=_ANY_COUNTRY, output_methods=[], log_level="critical", allow_multiple_runs=True
        )
        by = f"codecarbon {version('codecarbon')}"
        tracker.start()
    except Exception as error:
        logger.debug("codecarbon does not start: %s", error)
        return None, None
    return tracker, by


def _stopped(tracker: Any) -> float | None:
    """The kWh that a meter counted; None where it did not, which codecarbon tells in its log only, if at all."""
    if tracker is None:
        return None
    try:
        tracker.stop()
        kwh = float(tracker.final_emissions_data.energy_consumed)
    except Exception as error:
        logger.debug("codecarbon does not stop: %s", error)
        return None
    return kwh if math.isfinite(kwh) else None


def _write(file: Path, energy: Energy) -> None:
    try:
        with written_whole(file) as aside:
            aside.write_text(json.dumps(asdict(energy)) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("the energy used cannot be kept in %s: %s", file, error)
