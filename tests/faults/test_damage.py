"""Files that were damaged behind bertkit's back: what can be made good is, the rest is named in one line."""

import shutil
import signal

import pytest
from fault_runs import (
    figures,
    finetune_command,
    hashes,
    pretrain_command,
    require_done,
    require_one_line,
    run,
    start,
    wait_for,
)

from bertkit.train.checkpoint import list_checkpoints

# One process of the suite does all of it: what its cases share is made once.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(300), pytest.mark.xdist_group("damage")]

STEPS = 40


def flip(path):
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path):
    path.unlink()


@pytest.fixture(scope="module")
def peace(inputs, tmp_path_factory):
    """What a run comes to that nothing happens to."""
    folder = tmp_path_factory.mktemp("peace")
    require_done(run(pretrain_command(inputs, folder / "run", steps=STEPS)))
    return hashes(folder / "run/export"), figures(folder / "run")


@pytest.fixture(scope="module")
def stopped(inputs, tmp_path_factory):
    """A run of the same command stopped half-way."""
    folder = tmp_path_factory.mktemp("stopped")
    process = start(pretrain_command(inputs, folder / "run", steps=STEPS), log=folder / "log")
    assert wait_for(lambda: "step 10 (" in (folder / "log").read_text(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert len(list_checkpoints(folder / "run/checkpoints")) == 2
    return folder / "run"


@pytest.fixture
def run_dir(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (flip, "model.safetensors"),
        (flip, "optimizer.safetensors"),
        (flip, "checkpoint.json"),
        (cut, "model.safetensors"),
        (remove, "optimizer.safetensors"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(damage, name, inputs, peace, run_dir):
    newest = list_checkpoints(run_dir / "checkpoints")[0]
    damage(newest / name)
    done = require_done(run(pretrain_command(inputs, run_dir, steps=STEPS)))
    assert f"checkpoint {newest} is damaged: {name}" in done.stderr
    assert "falling back to the checkpoint before it" in done.stderr
    assert (hashes(run_dir / "export"), figures(run_dir)) == peace


def test_a_run_without_one_whole_checkpoint_is_refused(inputs, run_dir):
    for path in list_checkpoints(run_dir / "checkpoints"):
        cut(path / "model.safetensors")
    for command in (pretrain_command(inputs, run_dir, steps=STEPS), ["evaluate", str(run_dir)]):
        assert "no checkpoint under" in require_one_line(run(command))


@pytest.mark.parametrize("tail", [b'{"step": 10, "loss": 4.', b'\xff\xfe"', b'"\n{"step": 5}'])
def test_a_log_with_a_half_written_end_is_written_anew_from_there(tail, inputs, peace, run_dir):
    with (run_dir / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    # It describes where a run was made, and is never read again.
    cut(run_dir / "environment.json")
    require_done(run(pretrain_command(inputs, run_dir, steps=STEPS)))
    assert (hashes(run_dir / "export"), figures(run_dir)) == peace


@pytest.mark.parametrize(
    ("damage", "name", "named"),
    [
        (cut, "config.yaml", "config.yaml"),
        (cut, "pinned.json", "pinned.json"),
        (cut, "store/manifest.json", "store"),
        (remove, "store/manifest.json", "store"),
        (cut, "store/shards/train-00000.arrow", "train-00000.arrow"),
        (flip, "store/shards/train-00000.arrow", "train-00000.arrow"),
        (remove, "store/shards/heldout-00000.arrow", "heldout-00000.arrow"),
        (flip, "store/shards/heldout-00000.arrow", "heldout-00000.arrow"),
        (cut, "store/unigrams.npy", "unigrams.npy"),
        (cut, "store/tokenizer/tokenizer.json", "tokenizer"),
        (remove, "store/tokenizer/tokenizer.json", "tokenizer"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_in_one_line(damage, name, named, inputs, run_dir):
    damage(run_dir / name)
    assert named in require_one_line(run(pretrain_command(inputs, run_dir, steps=STEPS)))


@pytest.mark.parametrize("name", ["results.json", "config.yaml"])
def test_a_damaged_result_of_fine_tuning_is_named_in_one_line(name, inputs, finetuned, tmp_path):
    run_dir = shutil.copytree(finetuned, tmp_path / "run")
    cut(run_dir / name)
    assert name in require_one_line(run(finetune_command(inputs, run_dir, steps=10)))


@pytest.fixture(scope="module")
def finetuned(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    require_done(run(finetune_command(inputs, folder, steps=10)))
    return folder


def test_predictions_cut_short_are_named_in_one_line(finetuned, tmp_path):
    run_dir = shutil.copytree(finetuned, tmp_path / "run")
    # At the end of a line, what is left looks whole.
    cut(run_dir / "predictions.jsonl")
    assert "predictions.jsonl" in require_one_line(run(["evaluate", str(run_dir)]))
