"""Phases and learning rates, at the steps where they turn."""

import pytest

from bertkit.train.budget import Budget, LearningRate

HUNDRED = Budget((0.9, 0.1), max_steps=100)
MINUTE = Budget((0.9, 0.1), max_seconds=60)


def test_a_phase_of_nine_tenths_ends_at_the_ninetieth_step_of_a_hundred():
    assert [HUNDRED.phase(step=step, elapsed_s=0) for step in (0, 89, 90, 99, 100)] == [0, 0, 1, 1, None]


def test_a_run_by_the_clock_changes_phase_by_the_clock():
    assert [MINUTE.phase(step=7, elapsed_s=s) for s in (0, 53.9, 54.1, 59.9, 60)] == [0, 0, 1, 1, None]


def test_shares_that_do_not_divide_the_steps_still_use_every_step():
    assert Budget((1 / 3, 1 / 3, 1 / 3), max_steps=10).phase_ends(10) == [3, 7, 10]


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_linear_rises_over_the_warm_up_and_falls_to_zero_behind_the_last_step(warmup):
    rate = LearningRate(2.0, warmup)
    at = [rate.at(HUNDRED, step=step, elapsed_s=0) for step in range(100)]
    assert at[0] == pytest.approx(0.2)
    assert at[9] == pytest.approx(2.0)
    assert at[10] == pytest.approx(2.0)
    assert at[55] == pytest.approx(1.0)
    assert at[99] == pytest.approx(2 / 90)
    assert max(at) <= 2.0


def test_constant_stays_and_cosine_is_half_way_at_half_way():
    assert LearningRate(1.0, 0, "constant").at(HUNDRED, step=99, elapsed_s=0) == 1.0
    assert LearningRate(1.0, 0, "cosine").at(HUNDRED, step=50, elapsed_s=0) == pytest.approx(0.5)


def test_by_the_clock_the_schedule_follows_the_clock():
    rate = LearningRate(1.0, 0.1)
    assert rate.at(MINUTE, step=500, elapsed_s=3) == pytest.approx(0.5)
    assert rate.at(MINUTE, step=500, elapsed_s=33) == pytest.approx(0.5)
    assert rate.at(MINUTE, step=0, elapsed_s=60) == pytest.approx(0.0)


def test_warm_up_counted_in_steps_works_by_the_clock_too():
    rate = LearningRate(1.0, 4)
    assert [rate.at(MINUTE, step=step, elapsed_s=0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_no_warm_up_begins_at_the_peak():
    assert LearningRate(1.0, 0).at(HUNDRED, step=0, elapsed_s=0) == 1.0
