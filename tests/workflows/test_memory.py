"""Memory runs out: the step is made again in smaller micro-batches, and the weights are those of a larger machine."""

import logging
import os
import re
import subprocess
import sys
import weakref

import pytest
import torch
from test_pretrain import final_weights, same_bits, tiny_config

from bertkit.train.loop import MemoryExceededError
from bertkit.workflows import assemble
from bertkit.workflows import pretrain as workflow
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.training import AUTO_TOKENS, AUTO_TOKENS_CPU, tokens_a_pass

FITS = 100


def full_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def full_host():
    # What torch really says where there is no room: no address space holds this.
    torch.empty(2**50, dtype=torch.uint8)


def room_for(tokens, fail=full_gpu):
    """The losses on a device with room for so many tokens; what does not fit leaves half its gradients behind."""
    failed = []

    def terms(model, batch):
        assert not any(reference() is not None for reference in failed), "what did not fit is still in memory"
        losses = assemble.pretraining_terms(model, batch)
        if len(batch["input_ids"]) > tokens:
            losses["mlm"].sum.backward(retain_graph=True)
            failed.append(weakref.ref(losses["mlm"].sum))
            fail()
        return losses

    return terms


@pytest.mark.parametrize(
    ("asked", "fail"), [("auto", full_gpu), (150, full_host), pytest.param(None, full_gpu, marks=pytest.mark.slow)]
)
def test_a_run_that_went_on_in_smaller_micro_batches_has_the_weights_of_one_that_never_had_to(
    store, tmp_path, monkeypatch, caplog, asked, fail
):
    def run(name, tokens):
        # Without dropout, whose draws depend on the cuts.
        still = {"model__hidden_dropout_prob": 0.0, "model__attention_probs_dropout_prob": 0.0, "train__max_steps": 3}
        phases = [{"max_seq_length": 64, "micro_batch_tokens": tokens}]
        pretrain(tiny_config(store.path, train__phases=phases, train__micro_batch_size=None, **still), tmp_path / name)
        return final_weights(tmp_path / name)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="bertkit"):
        patch.setattr(workflow, "pretraining_terms", room_for(FITS, fail))
        tight = run("tight", asked)
    said = re.findall(r"out of memory at (\d+) tokens a forward pass: going on with (\d+)", caplog.text)
    assert said
    assert all(int(before) > FITS and int(before) // 2 == int(after) for before, after in said)
    assert same_bits(tight, run("same", int(said[-1][1])))
    roomy = run("roomy", 10_000)
    assert all(torch.allclose(tight[name], roomy[name], atol=1e-5) for name in tight)


def test_one_example_that_does_not_fit_alone_says_what_would_make_room(store, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "pretraining_terms", room_for(4))
    with pytest.raises(
        MemoryExceededError, match=r"tokens a forward pass, which is one example: set train.gradient_checkpointing=true"
    ):
        pretrain(tiny_config(store.path, train__micro_batch_size=None), tmp_path / "run")


def test_any_other_error_is_not_taken_for_a_lack_of_memory(store, tmp_path, monkeypatch):
    def broken(model, batch):
        raise RuntimeError("The size of tensor a must match the size of tensor b")

    monkeypatch.setattr(workflow, "pretraining_terms", broken)
    with pytest.raises(RuntimeError, match="size of tensor a"):
        pretrain(tiny_config(store.path), tmp_path / "run")


TWO_PROCESSES = """
from contextlib import closing

import torch
from accelerate import Accelerator
from torch import nn
from bertkit.config.schema import OptimConfig
from bertkit.data.feature_loader import FeatureLoader
from bertkit.data.features import assemble_features
from bertkit.data.loader import Batching
from bertkit.train.budget import Budget
from bertkit.train.loop import LossTerm, MemoryExceededError
from bertkit.train.setup import close_accelerator
from bertkit.workflows.training import agreed_tokens, build_state, training_steps

accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
features = assemble_features([(torch.arange(8).numpy(), 8)] * 32, range(32))
loader = FeatureLoader(features, seed=0, batching=Batching(32, None, rank, 2))
state = build_state(nn.Embedding(8, 3), OptimConfig(), accelerator, seed=0)

def loss(model, batch):
    if len(batch["input_ids"]) > (100, 50)[rank]:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return {"mlm": LossTerm(model(batch["input_ids"]).square().sum(), 1)}

fns = {"loss_fn": loss, "count_fn": lambda batch: {"mlm": 1}, "accelerator": accelerator}
agreed = agreed_tokens(state, loader, 65536, **fns)
assert all(p.grad is None for p in state.model.parameters())
settings = {"budget": Budget((1.0,), max_steps=9), "optim": OptimConfig(), **fns}
with closing(training_steps(state, loader, micro_batch_tokens=agreed, **settings)) as steps:
    report = next(steps)
print(f"agreed on {agreed}, trained on {report.tokens}", flush=True)
accelerator.wait_for_everyone()
try:
    # Too much for both, or one would wait for the other.
    next(training_steps(state, loader, micro_batch_tokens=None, **settings))
except MemoryExceededError as error:
    print(f"{error}", flush=True)
# As a run ends: the wrapped model before the group it talks through.
del state
close_accelerator(accelerator)
"""


def test_processes_agree_on_what_fits_the_smallest_of_them_and_never_try_again_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launcher, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # Each is dealt 128 of 256 tokens: one has room for half of them, the other for a quarter.
    assert done.stdout.count("agreed on 32, trained on 256") == 2
    refused = "out of memory at 128 tokens a forward pass on one of several processes: set train.micro_batch_tokens=64"
    assert done.stdout.count(refused) == 2


def test_auto_begins_with_what_suits_the_device():
    assert tokens_a_pass("auto", torch.device("cpu")) == AUTO_TOKENS_CPU
    assert tokens_a_pass("auto", torch.device("cuda")) == AUTO_TOKENS
    assert tokens_a_pass(300, torch.device("cpu")) == 300
    assert tokens_a_pass(None, torch.device("cuda")) is None
