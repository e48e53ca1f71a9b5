"""What the cards of all runs tell alike: what was trained, on what, for how long, as rows of a table."""

from collections.abc import Mapping
from typing import Any, Final

from transformers import AutoConfig

from bertkit.errors import CheckpointError, refused_as
from bertkit.hub.places import base_name
from bertkit.model.families import config_from
from bertkit.workflows.figures import duration
from bertkit.workflows.finetune_setup import read_pinned
from bertkit.workflows.runs import RunFolder

NOT_RECORDED: Final = "not recorded"
# What is said of every model, whatever it was trained on.
BIAS: Final = (
    "It has not been examined for social bias, and may repeat what is wrong, private or offensive in the text it was "
    "trained on."
)


def provenance_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Where the results come from; empty where a bertkit before this one wrote them."""
    found = results.get("provenance")
    return dict(found) if isinstance(found, Mapping) else {}


def architecture_of(run: RunFolder) -> Any:
    """The config of a fine-tuning run's model: the one it was pinned to, or, where that is gone, that of its export.

    Raises:
        CheckpointError: both are gone or damaged.
    """
    if pinned := _pinned_architecture(run):
        with refused_as(CheckpointError, f"{run.pinned_file} is damaged: put it back"):
            return config_from(pinned)
    run.require_model()
    with refused_as(CheckpointError, f"{run.export} does not open in transformers: export the run again"):
        return AutoConfig.from_pretrained(run.export, local_files_only=True, trust_remote_code=False)


def _pinned_architecture(run: RunFolder) -> dict[str, Any] | None:
    try:
        architecture: dict[str, Any] | None = read_pinned(run)["architecture"]
    except CheckpointError:
        return None
    return architecture


def cost_rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Hardware, precision, time, tokens, energy and versions."""
    known = provenance_of(results)
    elapsed_s, tokens = known.get("elapsed_s", results.get("elapsed_s")), known.get("tokens")
    return [
        ("hardware", _hardware(known.get("hardware"))),
        ("precision", str(known.get("precision", NOT_RECORDED))),
        ("training time", NOT_RECORDED if elapsed_s is None else duration(float(elapsed_s))),
        ("training tokens", NOT_RECORDED if tokens is None else f"{tokens:,}"),
        ("energy", _energy(known)),
        ("versions", _versions(known)),
    ]


def data_name(known: Mapping[str, Any], otherwise: str) -> str:
    """What the data is called: its id on the Hub, or the name of its files or folder."""
    data = known.get("data", {})
    return str(data.get("hub_id") or data.get("name") or otherwise)


def base_row(known: Mapping[str, Any], init_from: str | None) -> tuple[str, str]:
    """The model that training began with."""
    return "began with", base_of(known, init_from) or "random weights"


def base_of(known: Mapping[str, Any], init_from: str | None) -> str | None:
    """What the model that training began with is called; None for random weights."""
    base = known.get("base")
    name = base["name"] if isinstance(base, Mapping) else init_from
    return base_name(name) if name else None


def shape_said(known: Mapping[str, Any]) -> str:
    """` (4,385,920 parameters)`, or nothing where that was not recorded."""
    return f" ({known['parameters']:,} parameters)" if known.get("parameters") else ""


def _hardware(hardware: Mapping[str, Any] | None) -> str:
    if not hardware:
        return NOT_RECORDED
    devices = hardware["devices"]
    named = ", ".join(f"{devices.count(name)} x {name}" for name in dict.fromkeys(devices) if name != "cpu")
    processes = f", {hardware['processes']} processes" if hardware["processes"] > 1 else ""
    processor = f"{hardware['processor']} ({hardware['processor_cores']} cores, {hardware['memory_gb']:g} GB)"
    return f"{f'{named} beside ' if named else ''}{processor}{processes}"


def _energy(known: Mapping[str, Any]) -> str:
    if known.get("energy_kwh") is None:
        return "not measured"
    kwh = float(known["energy_kwh"])
    amount = f"{kwh:.3g} kWh" if kwh >= 0.01 else f"{1000 * kwh:.3g} Wh"
    return f"{amount}, estimated by {known.get('energy_measured_by', NOT_RECORDED)}"


def _versions(known: Mapping[str, Any]) -> str:
    if "bertkit" not in known:
        return NOT_RECORDED
    packages = {name: known.get("packages", {}).get(name) for name in ("torch", "transformers")}
    versions = {"bertkit": known["bertkit"], **packages, "Python": known.get("python")}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)
