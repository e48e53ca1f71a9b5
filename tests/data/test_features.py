"""Encoded examples in columns: batches, their order, and what a run on several processes or a resumed one sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.feature_loader import FeatureLoader
from bertkit.data.features import assemble_features, batches_by_length, collate_features, concatenate_features
from bertkit.data.loader import Batching, Position
from bertkit.data.texts import cut_pair


def features_of(lengths, *, choices=1):
    """One feature a length, filled with its number; `choices` of them are an example."""
    rows = [(np.full(length, number, np.int32), max(1, length // 2)) for number, length in enumerate(lengths)]
    examples = len(lengths) // choices
    grouped = {"group_bounds": np.arange(examples + 1) * choices, "group_targets": {"labels": np.arange(examples)}}
    return assemble_features(
        rows,
        np.repeat(np.arange(examples), choices),
        feature_targets={} if choices > 1 else {"labels": np.arange(len(lengths))},
        token_targets={"place": np.concatenate([np.arange(n) for n in lengths])},
        **(grouped if choices > 1 else {}),
    )


def test_a_batch_holds_its_features_end_to_end_with_their_own_targets():
    batch = collate_features(features_of([3, 5, 4]), np.array([2, 0]))
    assert batch["input_ids"].tolist() == [2, 2, 2, 2, 0, 0, 0]
    assert batch["position_ids"].tolist() == batch["place"].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch["token_type_ids"].tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert (batch["cu_seqlens"].tolist(), batch["max_seqlen"]) == ([0, 4, 7], 4)
    assert batch["labels"].tolist() == [2, 0]


def test_the_choices_of_an_example_stay_together():
    batch = collate_features(features_of([2, 3, 4, 5], choices=2), np.array([1]))
    assert batch["input_ids"].tolist() == [2] * 4 + [3] * 5
    assert (batch["group_sizes"].tolist(), batch["labels"].tolist()) == ([2], [1])


@pytest.mark.parametrize("choices", [1, 2])
def test_lots_featurized_one_after_another_are_as_one(choices):
    lengths = [3, 5, 4, 2, 6, 7]
    parts = [features_of(lengths[:4], choices=choices), features_of(lengths[4:], choices=choices)]
    together = concatenate_features(parts)
    assert together.lengths.tolist() == lengths
    assert together.num_groups == 6 // choices
    last = collate_features(together, np.array([together.num_groups - 1]))
    alone = collate_features(parts[1], np.array([parts[1].num_groups - 1]))
    assert all(np.array_equal(np.asarray(last[name]), np.asarray(alone[name])) for name in alone)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_batches_by_length_hold_every_group_once_and_no_more_tokens_than_they_may(lengths, max_tokens):
    features = features_of(lengths)
    batches = batches_by_length(features, max_tokens=max_tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * features.lengths[batch].max() <= max_tokens


def groups_of(loader, position=Position(), *, steps):
    """The examples of so many steps, and the position behind each."""
    batches = loader.steps(position)
    try:
        taken = [next(batches) for _ in range(steps)]
    finally:
        batches.close()
    return [[int(n) for b in step.micro_batches for n in b["labels"]] for step in taken], [s.position for s in taken]


def loader_of(features, *, seed=3, micro=4, rank=0, processes=1):
    return FeatureLoader(features, seed=seed, batching=Batching(4, micro, rank, processes))


def test_every_epoch_has_every_example_once_in_an_order_of_its_own():
    steps, _ = groups_of(loader_of(features_of([2] * 10)), steps=5)
    seen = [number for step in steps for number in step]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    other, _ = groups_of(loader_of(features_of([2] * 10), seed=4), steps=5)
    assert [number for step in other for number in step] != seen


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_goes_on_from_a_position_as_if_it_had_never_stopped(stop):
    features = features_of([2] * 10)
    whole, positions = groups_of(loader_of(features), steps=6)
    rest, _ = groups_of(loader_of(features), positions[stop - 1], steps=6 - stop)
    assert rest == whole[stop:]


def test_processes_and_micro_batches_share_the_same_steps():
    features = features_of([2] * 10)
    whole, _ = groups_of(loader_of(features), steps=4)
    halves = [groups_of(loader_of(features, rank=r, processes=2, micro=1), steps=4)[0] for r in (0, 1)]
    assert [sorted(first + second) for first, second in zip(*halves, strict=True)] == [sorted(step) for step in whole]


@pytest.mark.parametrize(("choices", "most"), [(1, 10), (2, 16)])
def test_a_forward_pass_holds_no_more_tokens_than_it_may_and_whole_examples(choices, most):
    features = features_of([5, 3, 8, 2, 6, 1, 4, 7], choices=choices)
    loader = loader_of(features, micro=None)
    whole, positions = groups_of(loader, steps=2)
    batches = loader.steps(micro_batch_tokens=most)
    steps = [next(batches) for _ in range(2)]
    batches.close()
    assert [step.position for step in steps] == positions
    for step, examples in zip(steps, whole, strict=True):
        assert len(step.micro_batches) > 1
        assert all(len(batch["input_ids"]) <= most for batch in step.micro_batches)
        assert sorted(int(n) for batch in step.micro_batches for n in batch["labels"]) == sorted(examples)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 50))
def test_of_a_pair_the_longer_text_gives_way_piece_by_piece(first, second, room):
    a, b = first, second
    while a + b > room:
        # As google-research/bert does it.
        a, b = (a - 1, b) if a > b else (a, b - 1)
    assert cut_pair(first, second, room=room) == (a, b)
