"""The electricity that training takes, by codecarbon, which needs no network; added up over stops and continuations."""

import json
import logging
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
            "every.energy needs codecarbon, which is not installed: pip install 'bertkit[energy]', or leave it out"
        )


@contextmanager
def metered(file: Path) -> Iterator[None]:
    """Adds the energy this machine uses until the block ends to what `file` holds of earlier ones."""
    before = read_energy(file)
    tracker, by = _tracker()
    opened = replace(before, by=by, is_open=True)
    _write(file, opened)
    tracker.start()
    try:
        yield
    finally:
        tracker.stop()
        # codecarbon tells of its own failures in its log only.
        found = getattr(tracker, "final_emissions_data", None)
        if found is None:
            logger.warning("codecarbon could not measure: the energy of this part of the run is not counted")
        used = found.energy_consumed if found else 0.0
        _write(file, replace(opened, kwh=before.kwh + used, is_open=False, has_gaps=before.has_gaps or not found))


def read_energy(file: Path) -> Energy:
    """What `metered` wrote; what a killed process did not come to write is a gap."""
    try:
        found = Energy(**json.loads(file.read_text(encoding="utf-8")))
        return replace(found, kwh=float(found.kwh), is_open=False, has_gaps=found.has_gaps or found.is_open)
    except FileNotFoundError:
        return Energy()
    except (OSError, ValueError, TypeError):
        return Energy(has_gaps=True)


def _tracker() -> tuple[Any, str]:
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code=_ANY_COUNTRY, output_methods=[], log_level="critical", allow_multiple_runs=True
    )
    return tracker, f"codecarbon {version('codecarbon')}"


def _write(file: Path, energy: Energy) -> None:
    with written_whole(file) as aside:
        aside.write_text(json.dumps(asdict(energy)) + "\n", encoding="utf-8")
