"""What every run has: how far it came, its settings, its machine and its command."""

from collections.abc import Mapping
from typing import Any, Final

from bertkit.hub.places import without_places
from bertkit.workflows.report.blocks import Block, Number, Section, Table
from bertkit.workflows.report.subjects import Subject

_UNITS: Final = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def amount(number: float) -> str:
    """A large number in three figures: 5.1 M."""
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_of(subject: Subject) -> str:
    """Whether the run came to its end, and with which bertkit."""
    state = "finished" if subject.results else "not finished"
    return f"{state} · bertkit {subject.environment.get('bertkit', 'of unknown version')}"


def settings_section(subject: Subject) -> Section:
    """The resolved settings and what the run ran on, without a path of the machine."""
    settings = [(key, shown(value)) for key, value in flat(without_places(subject.config)).items()]
    environment = without_places(_environment(subject))
    blocks: list[Block] = [
        Table("Where it ran", ("", ""), list(environment.items()), shown=20),
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


def shown(value: Any) -> str | Number:
    """A setting as a cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\u2013"}[value]
    if isinstance(value, int | float):
        return Number(f"{value:,}" if isinstance(value, int) else f"{value:g}", value)
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value) or "\u2013"
    return str(value)


def _environment(subject: Subject) -> dict[str, str]:
    known = subject.environment
    packages = known.get("packages", {})
    facts = {
        "command": " ".join(map(str, known.get("command", []))),
        "devices": ", ".join(map(str, known.get("devices", []))),
        "processes": str(known.get("processes", "")),
        "processor cores": str(known.get("processor_cores", "")),
        "platform": str(known.get("platform", "")),
        "python": str(known.get("python", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
    }
    return {name: value for name, value in facts.items() if value}
