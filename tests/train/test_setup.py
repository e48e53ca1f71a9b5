"""accelerate set up for one run."""

import pytest
import torch

from bertkit.errors import ConfigError
from bertkit.train.setup import build_accelerator, resolve_precision, seed_step

CPU = torch.device("cpu")


def test_what_accelerate_reads_from_the_environment_does_not_divide_the_gradients_again(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert build_accelerator("fp32").gradient_accumulation_steps == 1


def test_auto_is_bf16_exactly_where_the_processor_multiplies_it(monkeypatch):
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        assert resolve_precision("auto", device=CPU) == expected


def test_fp16_needs_a_gpu():
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        resolve_precision("fp16", device=CPU)


def test_two_runs_in_one_process_may_differ_in_precision():
    assert build_accelerator("bf16").mixed_precision == "bf16"
    assert build_accelerator("fp32").mixed_precision == "no"


def test_what_another_training_left_half_done_does_not_keep_the_optimizer_from_its_updates():
    build_accelerator("fp32").gradient_state._set_sync_gradients(False)
    assert build_accelerator("fp32").sync_gradients


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2**62, 0, 0)])
def test_seed_step_and_process_each_change_what_is_drawn(other):
    def draw(seed, step, rank):
        seed_step(seed, step=step, rank=rank)
        return torch.rand(4).tolist()

    assert draw(0, 0, 0) == draw(0, 0, 0)
    assert draw(0, 0, 0) != draw(*other)
