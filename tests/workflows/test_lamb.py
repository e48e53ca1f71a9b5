"""Pre-training with LAMB and the recipe of large batches."""

import pytest
from test_pretrain import StopAt, final_weights, same_bits, tiny_config

from bertkit.config.load import find_recipe, load_config
from bertkit.config.schema import PretrainConfig
from bertkit.train.budget import LearningRate
from bertkit.workflows.assemble import run_budget
from bertkit.workflows.pretrain import pretrain


def test_a_run_with_lamb_that_was_stopped_ends_with_the_same_bits(store, tmp_path):
    config = tiny_config(store.path, optim__name="lamb", train__max_steps=6)
    pretrain(config, tmp_path / "straight")
    assert pretrain(config, tmp_path / "run", watch=StopAt(3)).stopped_by == "SIGTERM"
    pretrain(config, tmp_path / "run")
    assert same_bits(final_weights(tmp_path / "run"), final_weights(tmp_path / "straight"))
    other = tiny_config(store.path, train__max_steps=6)
    pretrain(other, tmp_path / "adamw")
    assert not same_bits(final_weights(tmp_path / "adamw"), final_weights(tmp_path / "straight"))


def test_the_large_batch_recipe_follows_the_schedule_of_the_paper():
    # You et al. 2020, row 32K of their settings: 5e-3 after a fifth of 15,625 steps, then linearly to 0.
    config = load_config(PretrainConfig, find_recipe("large-batch"))
    budget = run_budget(config, store=None)
    rate = LearningRate(config.optim.learning_rate, config.optim.warmup_steps, config.optim.schedule)
    at = [rate.at(budget, step=step, elapsed_s=0) for step in (0, 1562, 3124, 3125, 9375, 15624)]
    assert at == pytest.approx([5e-3 / 3125, 5e-3 * 1563 / 3125, 5e-3, 5e-3, 2.5e-3, 5e-3 / 12500])
    assert budget.phase_ends(15625) == [14062, 15625]
