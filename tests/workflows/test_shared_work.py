"""Evaluation and prediction are shared out over processes: each example once, and nothing else than one would find."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from toy_tasks import write_bert, write_examples

from bertkit.errors import ConfigError
from bertkit.train.setup import dealt
from bertkit.workflows.predict import predict

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run_bertkit(*arguments, launcher=(), exit_code=0):
    command = [sys.executable, *launcher, "-m", "bertkit", *map(str, arguments)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == exit_code, done.stderr
    return done


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [0, 1, 6, 7, 20])
def test_every_item_counts_on_one_process_and_all_have_as_many(number, items):
    hands = [
        list(dealt(range(items), SimpleNamespace(process_index=rank, num_processes=number))) for rank in range(number)
    ]
    assert sorted(item for hand in hands for item, counts in hand if counts) == list(range(items))
    assert len({len(hand) for hand in hands}) == 1


@pytest.mark.slow
def test_two_processes_fine_tune_evaluate_and_predict_what_one_does(tmp_path):
    bert, train = write_bert(tmp_path / "bert"), write_examples(tmp_path / "rows", "classification", number=96)
    rows = tmp_path / "new.jsonl"
    # More batches than one, and not so many that each process would have as many.
    rows.write_text("".join(train.read_text().splitlines(keepends=True) * 9))
    for name in ("one", "two"):
        launcher = TWO if name == "two" else ()
        own = ["--nproc=2"] if name == "two" else []
        run = tmp_path / name
        arguments = ["finetune", "classify", f"--train={train}", "--text=text", "--label=label", f"--from={bert}"]
        settings = ["train.max_steps=4", "train.global_batch_size=8", "train.precision=fp32", "task.max_seq_length=32"]
        off = ["model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0"]
        run_bertkit(*arguments, f"--output-dir={run}", *(f"--set={s}" for s in [*settings, *off]), *own)
        run_bertkit("predict", run, rows, f"--output={tmp_path / name}.jsonl", launcher=launcher)
        said = run_bertkit("evaluate", run, f"--data={train}", launcher=launcher).stdout
        assert said.count("accuracy") == 1
    one, two = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("one", "two")
    )
    assert len(one) == 9 * 96
    assert [row["prediction"] for row in one] == [row["prediction"] for row in two]
    assert [row["probability"] for row in one] == pytest.approx([row["probability"] for row in two], abs=1e-4)
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["scores"] for name in ("one", "two"))
    assert one == two


@pytest.mark.slow
def test_seeds_in_two_processes_share_one_process_group_and_are_written_by_one(tmp_path):
    bert, train = write_bert(tmp_path / "bert"), write_examples(tmp_path / "rows", "classification", number=40)
    arguments = ["finetune", "classify", f"--train={train}", "--text=text", "--label=label", f"--from={bert}"]
    settings = ["train.max_steps=2", "train.global_batch_size=8", "train.precision=fp32", "task.max_seq_length=32"]
    command = [*arguments, f"--output-dir={tmp_path / 'suite'}", *(f"--set={s}" for s in settings), "--nproc=2"]
    run_bertkit(*command, "--seeds=4")
    # Finished runs keep no process waiting for another.
    said = run_bertkit(*command, "--seeds=6")
    runs = json.loads((tmp_path / "suite/results.json").read_text())["runs"]
    assert sorted(runs) == [f"seed-{seed}" for seed in range(6)]
    assert "Traceback" not in said.stderr


def test_standard_input_is_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.workflows.predict.launched_processes", lambda: SimpleNamespace(number=2, is_main=True))
    with pytest.raises(ConfigError, match="standard input reaches one process only"):
        predict(tmp_path, output=tmp_path / "out.jsonl")
