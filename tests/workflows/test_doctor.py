"""What the doctor looks at, and what it says of a machine or a run that is not well."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from test_health import config_of
from toy_corpus import write_corpus
from toy_finished import write_finetuned
from toy_runs import JUDGED, write_run
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError
from bertkit.workflows import doctor
from bertkit.workflows.doctor import machine
from bertkit.workflows.doctor.run import check_run
from bertkit.workflows.evaluate import evaluate
from bertkit.workflows.export import export
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    pretrain(config_of(write_corpus(folder / "corpus"), 4), folder / "runs" / "toy")
    return folder


def by_name(checks):
    return {check.name: check for check in checks}


def test_a_well_machine_with_a_finished_run_has_nothing_to_mend(trained, monkeypatch):
    monkeypatch.chdir(trained)
    found = CliRunner().invoke(app, ["doctor", "--json"])
    assert found.exit_code == 0, found.output
    checks = {check["name"]: check for check in json.loads(found.stdout)}
    assert not any(check["status"] == "problem" for check in checks.values())
    assert {"bertkit", "packages", "processor", "accelerators", "this folder", "Hub"} < set(checks)
    assert checks["runs/toy"]["text"] == "finished, step 4"
    assert checks["health"]["status"] == "ok"


def test_without_a_run_the_machine_is_examined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert by_name(doctor.examine())["newest run"].text == "there is none under runs/ yet"


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    found = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert found.exit_code == 2
    assert "is not a run folder" in found.stderr
    with pytest.raises(CheckpointError):
        doctor.examine(tmp_path)


def test_a_package_of_another_version_is_a_problem_with_its_remedy_and_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    needed = ["torch>=99", "no-such-package>=1", "numpy>=1.26", 'ray>=99; extra == "cluster"']
    monkeypatch.setattr(machine, "requires", lambda name: needed)
    found = CliRunner().invoke(app, ["doctor"])
    assert found.exit_code == 2
    said = " ".join(found.stdout.split())
    assert "is installed, >=99 is needed" in said
    assert "no-such-package is not installed" in said
    assert "pip install --upgrade bertkit" in said
    assert "ray 2" not in said


def test_what_is_said_of_the_processor_is_one_sentence():
    text = by_name(machine.check_devices())["processor"].text
    assert " GB of memory free, precision " in text
    assert "  " not in text


def test_too_many_threads_and_too_little_memory_are_worth_a_look(monkeypatch):
    monkeypatch.setattr(machine, "free_main_memory", lambda: 1e9)
    assert "end other programs" in by_name(doctor.machine.check_devices())["processor"].text
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 64)
    assert "set OMP_NUM_THREADS to 1 at the most" in by_name(machine.check_devices())["processor"].text


def test_a_torch_for_cuda_without_a_gpu_is_worth_a_look(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    check = by_name(machine.check_devices())["accelerators"]
    assert check.status == "warning"
    assert "nvidia-smi" in check.text


@pytest.mark.parametrize(("factor", "says"), [(None, "cannot multiply"), (2.0, "multiplies wrongly")])
def test_a_device_that_fails_or_miscalculates_is_a_problem(monkeypatch, factor, says):
    def broken(self, other):
        if factor is None:
            raise RuntimeError("CUDA error: no kernel image is available\nmore")
        return torch.mm(self, other) * (factor if self is not ones_cpu else 1.0)

    ones_cpu = torch.ones(64, 64)
    monkeypatch.setattr(machine.torch, "ones", lambda *shape: ones_cpu)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self.clone())
    monkeypatch.setattr(torch.Tensor, "__matmul__", broken)
    check = machine._working(torch.device("cuda", 0), "a GPU")
    assert check.status == "problem"
    assert says in check.text
    assert "more" not in check.text


def test_disks_that_are_full_or_read_only_are_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(1e12, 1e12, 1e9))
    assert by_name(machine.check_disks())["this folder"].status == "warning"
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    check = by_name(machine.check_disks())["this folder"]
    assert check.status == "problem"
    assert "cannot be written" in check.text


def test_caches_say_what_they_hold_and_links_are_not_counted_twice(monkeypatch, tmp_path):
    (tmp_path / "blob").write_bytes(b"x" * 20_000_000)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    monkeypatch.setattr(machine.constants, "HF_HOME", str(tmp_path))
    checks = by_name(machine.check_caches())
    assert "0.02 GB held" in checks["Hugging Face cache"].text


def test_a_token_is_said_to_be_there_and_never_shown(monkeypatch):
    canary = "hf_" + "canary" * 6
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (check,) = machine.check_hub()
    assert "a token is there" in check.text
    assert "HF_HUB_OFFLINE is set" in check.text
    assert canary not in check.text


def test_a_damaged_checkpoint_is_worth_a_look(trained):
    saved = sorted((trained / "runs" / "toy" / "checkpoints").glob("step-*"))[0]
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:-10])
    try:
        check = by_name(doctor.examine(trained / "runs" / "toy"))[saved.name]
    finally:
        (saved / "model.safetensors").write_bytes(whole)
    assert check.status == "warning"
    assert "passed over" in check.text


def test_a_stopped_run_says_how_to_go_on_and_one_under_way_that_it_is(trained):
    run = RunFolder(trained / "runs" / "toy")
    results = run.results_file.read_text(encoding="utf-8")
    run.results_file.unlink()
    (run.path / ".lock").touch()  # left by a kill
    holder = "import sys; from pathlib import Path; from bertkit.lock import FolderLock\n"
    holder += "lock = FolderLock(Path(sys.argv[1])); lock.take(); print('taken', flush=True); sys.stdin.readline()"
    try:
        text = by_name(doctor.examine(run.path))[str(run.path)].text
        assert text == "stopped, step 4 logged, step-0000004 saved: the same command goes on from there"
        command = [sys.executable, "-c", holder, str(run.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "taken\n"
            assert by_name(doctor.examine(run.path))[str(run.path)].text == "under way, step 4 logged"
            process.communicate("\n", timeout=60)
    finally:
        run.results_file.write_text(results, encoding="utf-8")


def test_a_cache_that_changes_while_it_is_counted_or_is_endless_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1000)
    walked = [(str(tmp_path), [], ["file", "gone"])] * 3
    monkeypatch.setattr(machine.os, "walk", lambda folder: iter(walked))
    assert machine._held(tmp_path) == "0.00 GB"
    monkeypatch.setattr(machine, "SECONDS_TO_COUNT", -1.0)
    assert machine._held(tmp_path) == "more than 0.00 GB"


def test_a_feature_is_ready_only_with_all_of_its_packages(monkeypatch):
    monkeypatch.setattr(machine, "is_installed", lambda name: name != "starlette")
    text = by_name(machine.check_packages())["optional packages"].text
    assert text.endswith("not installed: serve (starlette)")


def test_a_damaged_run_does_not_hide_the_machine(trained, tmp_path):
    run = tmp_path / "runs" / "broken"
    run.mkdir(parents=True)
    for name in ("environment.json", "metrics.jsonl"):
        (run / name).write_bytes((trained / "runs" / "toy" / name).read_bytes())
    (run / "config.yaml").write_text("model: [", encoding="utf-8")
    checks = by_name(doctor.examine(run))
    assert checks["processor"].status == "ok"
    assert checks[str(run)].status == "problem"
    assert "config.yaml" in checks[str(run)].text
    found = CliRunner().invoke(app, ["doctor", str(run)])
    assert found.exit_code == 2
    assert "Traceback" not in found.output


def test_a_folder_of_runs_is_one_line(tmp_path):
    write_run(tmp_path / "seed-0", "regression", {"dev": JUDGED["regression"]()})
    found = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert found.exit_code == 2
    assert "holds several runs" in found.stderr


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_run_that_lost_what_it_is_known_by_is_one_line(name, trained, tmp_path):
    run = shutil.copytree(trained / "runs" / "toy", tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"run is a run without its {name}: put it back"):
        doctor.examine(run)


def spoil(path, text):
    """Writes `text` in the place of a file, or removes the file or folder for None."""
    if text is not None:
        path.write_text(text, encoding="utf-8")
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("place", "text", "status", "said"),
    [
        ("results.json", "{}", "problem", "results.json is damaged: run bertkit evaluate {run} again"),
        ("results.json", "null", "problem", "results.json is damaged: run bertkit evaluate {run} again"),
        ("metrics.jsonl", "garbage", "warning", "{run}/metrics.jsonl is damaged: put it back, or do without curves"),
        ("metrics.jsonl", None, "warning", "{run}/metrics.jsonl is gone: put it back, or do without curves"),
        ("export", None, "problem", "{run}/export is gone: put it back, or run bertkit export {run} again"),
        ("export/config.json", None, "problem", "config.json is gone: put it back, or run bertkit export {run} again"),
        ("export/tokenizer.json", None, "problem", "tokenizer.json is gone: put it back, or run bertkit export {run}"),
        ("export/model.safetensors", None, "problem", "remove it and run bertkit export {run} again"),
        ("export/config.json", "{}", "problem", "remove it and run bertkit export {run} again"),
    ],
)
def test_what_a_finished_run_lost_is_named_with_a_remedy(place, text, status, said, trained, tmp_path):
    run = shutil.copytree(trained / "runs" / "toy", tmp_path / "run")
    spoil(run / place, text)
    check = by_name(check_run(run))[place.partition("/")[0]]
    assert check.status == status
    assert said.format(run=run) in check.text


def test_the_remedies_of_a_damaged_run_work(trained, tmp_path):
    run = shutil.copytree(trained / "runs" / "toy", tmp_path / "run")
    spoil(run / "results.json", "[]")
    evaluate(run)
    spoil(run / "export", None)
    export(run)
    assert not {"results.json", "export"} & set(by_name(check_run(run)))


def test_without_checkpoints_an_export_cannot_be_made_anew(trained, tmp_path):
    run = shutil.copytree(trained / "runs" / "toy", tmp_path / "run")
    spoil(run / "checkpoints", None)
    spoil(run / "export", None)
    assert by_name(check_run(run))["export"].text == f"{run}/export is gone: put it back"


def test_damaged_lines_of_a_log_are_counted(trained, tmp_path):
    run = shutil.copytree(trained / "runs" / "toy", tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8")
    (run / "metrics.jsonl").write_text(f"gar\nbage\n{lines}", encoding="utf-8")
    check = by_name(check_run(run))["metrics.jsonl"]
    assert check.status == "warning"
    assert "2 lines are damaged" in check.text


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return write_finetuned(tmp_path_factory.mktemp("finetuned"))


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("results.json", "{}", "results.json is missing or damaged: remove it and run the same command again"),
        ("results.json", '{"scores": 3}', "results.json is missing or damaged: remove it and run the same command"),
        ("results.json", None, "results.json is gone: put it back, or run the same command again, which trains anew"),
        ("export", None, "export is gone: put it back, or remove {run}/results.json and run the same bertkit finetune"),
        ("export/tokenizer.json", None, "tokenizer.json is gone: put it back, or remove {run}/results.json and run"),
        ("export/config.json", "{}", "or remove it and {run}/results.json and run the same command again"),
    ],
)
def test_what_a_fine_tuned_run_lost_is_named_with_a_remedy(place, text, said, finetuned, tmp_path):
    run = shutil.copytree(finetuned, tmp_path / "run")
    assert {check.status for check in check_run(run)} == {"ok"}
    spoil(run / place, text)
    checks = by_name(check_run(run))
    check = checks[place.partition("/")[0]]
    assert check.status == "problem"
    assert said.format(run=run) in check.text
    assert checks[str(run)].text.startswith("finished")
    if place == "results.json":
        assert "health" not in checks


def test_a_lock_that_cannot_be_tried_is_not_taken_for_a_run_under_way(trained, monkeypatch):
    run = RunFolder(trained / "runs" / "toy")
    (run.path / ".lock").touch()

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bertkit.lock.FolderLock.take", denied)
    try:
        assert by_name(doctor.examine(run.path))[str(run.path)].text.startswith("perhaps under way")
    finally:
        (run.path / ".lock").unlink()


def test_a_collapsed_fine_tuning_run_is_told(tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()})
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    results["collapsed"] = "one answer for everything"
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    check = by_name(doctor.examine(run))["health"]
    assert check.status == "warning"
    assert "--stable" in check.text
