"""How many processes train, and whether each holds the whole model, changes nothing: not the data, not the weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from toy_tasks import toy_config, write_bert, write_examples
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.config.load import dump_config
from bertkit.config.schema import OptimConfig
from bertkit.errors import ConfigError
from bertkit.train.tracking import read_metrics
from bertkit.workflows.training import build_state

OPTIONS = [
    "--recipe=tiny",
    "--set=train.epochs=null",
    "--set=train.max_steps=6",
    # Two processes make a micro-batch of 4 and one of 2 of it, where one makes three of 4.
    "--set=train.global_batch_size=12",
    "--set=train.micro_batch_size=4",
    "--set=train.precision=fp32",
    "--set=model.hidden_size=32",
    "--set=model.intermediate_size=64",
    # Every process draws its own dropout.
    "--set=model.hidden_dropout_prob=0",
    "--set=model.attention_probs_dropout_prob=0",
    "--set=data.tokenizer.vocab_size=120",
    "--set=data.num_workers=1",
    "--set=data.heldout_share=0.1",
    "--set=every.log_steps=1",
    "--set=every.evaluate_steps=2",
    "--set=every.save_steps=2",
    "--set=every.keep_checkpoints=9",
]
DDP: dict[str, str] = {}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
PARALLEL = {"ddp": DDP, "fsdp": FSDP}


def run_bertkit(*arguments, processes=1, parallel=DDP):
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"} | parallel
    if processes == 1 and not parallel:
        # In this process, which has imported everything.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCELERATE_USE_CPU", "1")
            done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *launcher, "-m", "bertkit", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def pretrain(corpus, run, **how):
    return run_bertkit("pretrain", corpus, *OPTIONS, f"--output-dir={run}", **how)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    pretrain(store.path, run)
    return run


def forget_after(run, step):
    """Leaves the run as it was when the checkpoint of this step was whole."""
    for path in (run / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    shutil.rmtree(run / "export")
    (run / "results.json").unlink()


def assert_same(run, undisturbed):
    assert_same_tensors(run, undisturbed, "checkpoints/step-0000006/model.safetensors")
    assert_same_tensors(run, undisturbed, "checkpoints/step-0000006/optimizer.safetensors")
    counters = ("step", "phase", "position", "tokens", "instances")
    own, its = (json.loads((r / "checkpoints/step-0000006/checkpoint.json").read_text()) for r in (run, undisturbed))
    assert {name: own[name] for name in counters} == {name: its[name] for name in counters}
    # Another instance in any step, once more or once less, and its loss would be another.
    rows, expected = read_metrics(run / "metrics.jsonl"), read_metrics(undisturbed / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    for row, other in zip(rows, expected, strict=True):
        kept = {name: value for name, value in row.items() if name not in ("elapsed_s", "tokens_per_s")}
        assert kept == pytest.approx({name: other[name] for name in kept}, rel=1e-5)
    own, its = (json.loads((r / "results.json").read_text())["heldout"] for r in (run, undisturbed))
    assert own == pytest.approx(its, rel=1e-5)


def assert_same_tensors(run, other, file, atol=1e-6):
    own, its = load_file(run / file), load_file(other / file)
    assert own.keys() == its.keys()
    for name in own:
        assert torch.allclose(own[name], its[name], rtol=0, atol=atol), name


def test_two_processes_end_with_the_weights_of_one_and_speak_with_one_voice(undisturbed, corpus_dir, tmp_path):
    spoken = pretrain(corpus_dir, tmp_path / "two", processes=2)
    assert_same(tmp_path / "two", undisturbed)
    assert spoken.stdout.count("Pre-trained") == 1
    assert spoken.stderr.count("step 2 ") == 1


@pytest.mark.parametrize("parallel", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_a_checkpoint_of_one_process_goes_on_in_two(parallel, undisturbed, store, tmp_path):
    check_relay([("ddp", 1), (parallel, 2)], undisturbed, store, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "relay",
    [
        [("ddp", 2), ("ddp", 1)],
        [("ddp", 2), ("ddp", 3)],
        [("fsdp", 2), ("ddp", 2), ("ddp", 1)],
        [("ddp", 3), ("fsdp", 2), ("fsdp", 3)],
    ],
    ids=lambda relay: "-".join(f"{parallel}{number}" for parallel, number in relay),
)
def test_a_checkpoint_goes_on_in_any_number_of_processes(relay, undisturbed, store, tmp_path):
    check_relay(relay, undisturbed, store, tmp_path)


def check_relay(relay, undisturbed, store, tmp_path):
    """Every runner of `relay`, a kind and a number of processes, is stopped two steps behind the one before it."""
    run = tmp_path / "run"
    for leg, (parallel, processes) in enumerate(relay):
        if (leg, parallel, processes) == (0, "ddp", 1):
            shutil.copytree(undisturbed, run)
            continue
        if leg:
            forget_after(run, 2 * leg)
        spoken = pretrain(store.path, run, processes=processes, parallel=PARALLEL[parallel])
        assert f"from step {2 * leg}" in spoken.stderr or not leg
    assert_same(run, undisturbed)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="whole"),
        pytest.param({"model__lora": {"rank": 4, "alpha": 8, "dropout": 0.0}}, id="lora", marks=pytest.mark.slow),
        pytest.param({"model__freeze": "encoder"}, id="frozen", marks=pytest.mark.slow),
        pytest.param(
            {"model__freeze": "encoder", "model__bilstm": {"size": 16}}, id="features", marks=pytest.mark.slow
        ),
        pytest.param(
            {"optim__layer_decay": 0.9, "train__gradient_checkpointing": True}, id="decay", marks=pytest.mark.slow
        ),
    ],
)
def test_fine_tuning_in_parts_exports_and_scores_what_one_process_does(changes, tmp_path):
    bert, examples = write_bert(tmp_path / "bert"), write_examples(tmp_path / "examples", "classification", number=61)
    config = toy_config(examples, bert, "classification", model__hidden_dropout_prob=0.0, train__epochs=1, **changes)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_config(config), encoding="utf-8")
    one, parts = tmp_path / "one", tmp_path / "parts"
    for run, how in ((one, {}), (parts, {"processes": 2, "parallel": FSDP})):
        spoken = run_bertkit(
            "finetune",
            "classify",
            f"--train={examples}",
            f"--recipe={recipe}",
            f"--from={bert}",
            f"--output-dir={run}",
            **how,
        )
    assert spoken.stdout.count("Fine-tuned") == 1
    # Adam's first steps turn the last bit of a small gradient into a step of its own size.
    assert_same_tensors(parts, one, "export/model.safetensors", atol=1e-4)
    first, second = (lines_of(run / "predictions.jsonl") for run in (one, parts))
    assert len(first) == 15
    for line, other in zip(first, second, strict=True):
        assert [line[name] for name in ("key", "label", "prediction")] == [
            other[name] for name in ("key", "label", "prediction")
        ]
        assert line["probability"] == pytest.approx(other["probability"], abs=1e-3)


def test_lamb_is_refused_where_weights_lie_in_parts():
    sharded = SimpleNamespace(distributed_type=DistributedType.FSDP, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="optim.name lamb needs whole weights.*use adamw"):
        build_state(torch.nn.Linear(2, 2), OptimConfig(name="lamb"), sharded, seed=0)


def lines_of(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
