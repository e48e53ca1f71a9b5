"""One process equals two: the same data, the same global batch, the same weights to rounding."""

import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

OPTIONS = [
    "--recipe=tiny",
    "--set=train.epochs=null",
    "--set=train.max_steps=6",
    "--set=train.global_batch_size=8",
    "--set=train.micro_batch_size=2",
    "--set=train.precision=fp32",
    "--set=model.hidden_size=32",
    "--set=model.intermediate_size=64",
    # Every process draws its own dropout.
    "--set=model.hidden_dropout_prob=0",
    "--set=model.attention_probs_dropout_prob=0",
    "--set=data.tokenizer.vocab_size=120",
    "--set=data.num_workers=1",
    "--set=data.heldout_share=0.1",
    "--set=every.log_steps=2",
]


def pretrain(corpus, run_dir, *launcher):
    command = [sys.executable, *launcher, "-m", "bertkit", "pretrain", str(corpus), *OPTIONS, f"--output-dir={run_dir}"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_end_with_the_weights_of_one_and_speak_with_one_voice(corpus_dir, tmp_path):
    pretrain(corpus_dir, tmp_path / "one")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    spoken = pretrain(corpus_dir, tmp_path / "two", *launcher)
    first, second = (
        load_file(tmp_path / name / "checkpoints/step-0000006/model.safetensors") for name in ("one", "two")
    )
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-6), name
    assert spoken.stdout.count("Pre-trained") == 1
    assert spoken.stderr.count("step 2 ") == 1
