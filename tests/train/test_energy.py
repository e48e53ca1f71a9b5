"""Energy is added up over the parts of a run, and what a kill left uncounted is known to be missing."""

import json
import sys
from types import SimpleNamespace

import pytest

from bertkit.train.energy import Energy, metered, read_energy


@pytest.fixture
def meter(monkeypatch):
    """A codecarbon that counts one kWh between start and stop."""

    class Tracker:
        def __init__(self, **options):
            self.options = options

        def start(self):
            pass

        def stop(self):
            self.final_emissions_data = SimpleNamespace(energy_consumed=1.0)

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=Tracker))
    return Tracker


def test_parts_of_a_run_are_added_up(meter, tmp_path):
    file = tmp_path / "energy.json"
    for _ in range(3):
        with metered(file):
            pass
    found = read_energy(file)
    assert (found.kwh, found.has_gaps) == (3.0, False)
    assert found.by.startswith("codecarbon ")


def test_what_an_error_ends_is_counted_too(meter, tmp_path):
    with pytest.raises(ValueError, match="oops"), metered(tmp_path / "energy.json"):
        raise ValueError("oops")
    assert read_energy(tmp_path / "energy.json").kwh == 1.0


def test_a_kill_leaves_a_gap_that_is_known(meter, tmp_path):
    file = tmp_path / "energy.json"
    with metered(file):
        killed = file.read_text()
    file.write_text(killed)
    assert read_energy(file).has_gaps
    with metered(file):
        pass
    assert read_energy(file) == Energy(kwh=1.0, by=read_energy(file).by, has_gaps=True)


def fail(*_, **__):
    raise RuntimeError("no such counter")


@pytest.mark.parametrize(
    ("name", "broken"), [("__init__", fail), ("start", fail), ("stop", fail), ("stop", lambda self: None)]
)
def test_a_meter_that_fails_spoils_no_run_and_warns_once(name, broken, meter, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(meter, name, broken)
    reached = []
    with metered(tmp_path / "energy.json"):
        reached.append("the end")
    assert reached
    assert caplog.text.count("could not measure") == 1
    assert read_energy(tmp_path / "energy.json").has_gaps


def test_a_meter_that_fails_after_one_that_worked_keeps_what_was_counted(meter, tmp_path, monkeypatch):
    file = tmp_path / "energy.json"
    with metered(file):
        pass
    monkeypatch.setattr(meter, "start", fail)
    with metered(file):
        pass
    found = read_energy(file)
    assert (found.kwh, found.has_gaps) == (1.0, True)
    assert found.by


def test_energy_that_cannot_be_kept_is_a_warning(meter, tmp_path, caplog):
    with metered(tmp_path / "nowhere" / "energy.json"):
        pass
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", '{"kwh": "x"}', '{"nonsense": 1}', "\0"])
def test_a_damaged_file_is_a_gap_and_no_error(content, meter, tmp_path):
    file = tmp_path / "energy.json"
    file.write_text(content)
    with metered(file):
        pass
    assert read_energy(file).has_gaps
    assert json.loads(file.read_text())["kwh"] == 1.0


def test_nothing_is_known_of_a_run_that_was_not_measured(tmp_path):
    assert read_energy(tmp_path / "energy.json") == Energy()
