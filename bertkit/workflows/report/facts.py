"""What every run has: how far it came, its settings, its machine and its command."""

from collections.abc import Mapping
from typing import Any, Final

from bertkit.hub.places import shown_command, without_places
from bertkit.workflows.report.blocks import Block, Note, Number, Section, Table
from bertkit.workflows.report.subjects import Subject

_UNITS: Final = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def amount(number: float) -> str:
    """A large number in three figures: 5.1 M."""
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def status_of(subject: Subject) -> str:
    """Whether the run came to its end, and with which bertkit."""
    state = "finished" if subject.results else "not finished"
    return f"{state} · bertkit {subject.environment.get('bertkit', 'of unknown version')}"


def log_notes(subject: Subject) -> list[Block]:
    """That the log or lines of it are damaged, if they are."""
    if subject.history.is_lost:
        return [Note("metrics.jsonl is missing or damaged: there are no curves of the run.", "warning")]
    number = subject.history.num_damaged
    if not number:
        return []
    lines = "1 damaged line is" if number == 1 else f"{number:,} damaged lines are"
    return [Note(f"metrics.jsonl: {lines} left out of the curves.", "warning")]


def settings_section(subject: Subject) -> Section:
    """The resolved settings and what the run ran on, without a path of the machine."""
    settings = [(key, shown(value)) for key, value in flat(without_places(subject.config)).items()]
    environment = _environment(subject.environment)
    blocks: list[Block] = [
        Table("Where it ran", ("", ""), environment, shown=20),
        Table("Settings", ("setting", "value"), settings, "As in config.yaml, paths shortened.", shown=0),
    ]
    return Section("Settings and machine", blocks)


def flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names; what is in a list by its number, from 1."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            value = dict(enumerate(value, start=1))
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def shown(value: Any) -> str | Number | None:
    """A setting as a cell; None where nothing is set."""
    if value is None or value == [] or value == ():
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return Number(f"{value:,}" if isinstance(value, int) else f"{value:g}", value)
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return str(value)


def _environment(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the command and the machine; of an edited file, what can be read of it."""
    packages = known.get("packages")
    versions = packages.items() if isinstance(packages, Mapping) else ()
    facts = {
        "devices": ", ".join(map(str, _listed(known.get("devices")))),
        "processes": str(known.get("processes", "")),
        "processor cores": str(known.get("processor_cores", "")),
        "platform": str(known.get("platform", "")),
        "python": str(known.get("python", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in versions if version),
    }
    rows = {"command": shown_command(_listed(known.get("command"))), **without_places(facts)}
    return [(name, value) for name, value in rows.items() if value]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
