"""The order of batches: seeded, shared out, resumable; and instances out of a real store."""

import gc
import weakref
from itertools import islice

import numpy as np
import pytest
import torch

from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import PairRule
from bertkit.data.loader import (
    Batching,
    Position,
    Prefetched,
    PretrainingLoader,
    Stretch,
    draw_epoch,
    group_shards,
    instance_lengths,
)

RULE = PairRule(max_seq_length=48)


def loader(store, *, micro=4, total=8, rank=0, processes=1, seed=0, rule=RULE):
    return PretrainingLoader(
        store.split("train"),
        store.vocabulary,
        rule,
        collator=DataCollatorForPretraining(store.vocabulary, packed=True),
        seed=seed,
        batching=Batching(total, micro, rank, processes),
    )


def take(source, num, position=Position(), tokens=None):
    steps = source.steps(position, micro_batch_tokens=tokens)
    try:
        return list(islice(steps, num))
    finally:
        steps.close()


def ids(steps):
    return torch.cat([micro["input_ids"] for step in steps for micro in step.micro_batches])


def rows(*steps):
    """What is in some steps, in no order."""
    ids_and_sizes = [(m["input_ids"], m["cu_seqlens"].diff().tolist()) for s in steps for m in s.micro_batches]
    return sorted(row.tolist() for ids, sizes in ids_and_sizes for row in ids.split(sizes))


def lengths(step):
    return [micro["cu_seqlens"].diff().tolist() for micro in step.micro_batches]


def test_an_instance_is_cls_a_sep_b_sep_with_its_segments(store):
    drawn = draw_epoch(store.split("train"), store.vocabulary, RULE)
    vocabulary = store.vocabulary
    for place in range(len(drawn)):
        instance = drawn[place]
        input_ids, types = instance["input_ids"], instance["token_type_ids"]
        assert input_ids[0] == vocabulary.cls_id
        assert input_ids[-1] == vocabulary.sep_id
        first_end = int(np.flatnonzero(input_ids == vocabulary.sep_id)[0])
        assert (types == (np.arange(len(types)) > first_end)).all()
        assert len(input_ids) <= RULE.max_seq_length


def test_every_sentence_of_the_store_appears_once_in_an_epoch(store):
    split = store.split("train")
    rule = PairRule(max_seq_length=512)  # nothing needs cutting
    drawn = draw_epoch(split, store.vocabulary, rule)
    special = set(store.vocabulary.special_ids)
    tokens = [t for place in range(len(drawn)) for t in drawn[place]["input_ids"].tolist() if t not in special]
    stored = [t for shard in split.shards for t in shard.tokens.tolist()]
    assert sorted(tokens) == sorted(stored)


def test_a_segment_too_long_is_cut_to_fit_and_the_longer_one_first(store):
    rule = PairRule(max_seq_length=12, short_seq_probability=0.0)
    drawn = draw_epoch(store.split("train"), store.vocabulary, rule)
    lengths = [len(drawn[place]["input_ids"]) for place in range(len(drawn))]
    assert max(lengths) == 12
    a = [int((drawn[place]["token_type_ids"] == 0).sum()) for place in range(len(drawn))]
    assert min(a) >= 3


def test_another_epoch_is_another_partition_of_the_same_sentences(store):
    first, second = (draw_epoch(store.split("train"), store.vocabulary, RULE, epoch=epoch) for epoch in (0, 1))
    assert not np.array_equal(first[0]["input_ids"], second[0]["input_ids"])


@pytest.mark.parametrize("tokens", [None, 40, 90])
def test_two_processes_share_out_exactly_what_one_sees(store, tokens):
    alone = take(loader(store), 5)
    both = [take(loader(store, rank=rank, processes=2, micro=None), 5, tokens=tokens) for rank in (0, 1)]
    for number, step in enumerate(alone):
        first, second = (steps[number] for steps in both)
        assert rows(first, second) == rows(step)
        assert first.position == second.position == step.position


@pytest.mark.parametrize("processes", [2, 3, 8, 64])
@pytest.mark.parametrize("bound", [None, 60, 200])
def test_every_process_makes_as_many_forward_passes_or_spread_parameters_would_wait_for_ever(processes, bound):
    for seed in range(10):
        lengths = np.random.default_rng(seed).integers(1, 50, size=6 * processes)
        shares = [
            Batching(len(lengths), 5, rank, processes).cut(lengths, micro_batch_tokens=bound)
            for rank in range(processes)
        ]
        assert len({tuple(len(cut) for cut in share) for share in shares}) == 1
        assert sorted(np.concatenate([cut for share in shares for cut in share])) == list(range(len(lengths)))
        assert all(len(cut) <= 5 for share in shares for cut in share)
        if bound is not None:
            assert all(len(cut) == 1 or lengths[cut].sum() <= bound for share in shares for cut in share)


# Tokens an instance: nearly all full, as in pre-training; evenly spread; mostly short, as in classification.
LENGTHS = {
    "mostly full": lambda draw, num: np.where(draw.random(num) < 0.1, draw.integers(5, 128, num), 128),
    "spread": lambda draw, num: draw.integers(5, 129, num),
    "mostly short": lambda draw, num: np.minimum(128, 5 + draw.gamma(2.0, 15.0, num).astype(int)),
}


@pytest.mark.parametrize("draw_lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("processes", [2, 8, 64, 256])
def test_every_process_has_as_many_tokens_within_two_percent(processes, draw_lengths):
    draw = np.random.default_rng(0)
    for _ in range(max(1, 60 // processes)):
        lengths = draw_lengths(draw, 32 * processes)
        batchings = [Batching(len(lengths), None, rank, processes) for rank in range(processes)]
        tokens = np.array([lengths[np.concatenate(batching.cut(lengths))].sum() for batching in batchings])
        assert abs(tokens / tokens.mean() - 1).max() < 0.02


def test_a_process_builds_its_own_instances_only():
    class Built(list):
        def __getitem__(self, place):
            built.append(place)
            return super().__getitem__(place)

    lengths, shares = np.arange(1, 13), []
    for rank in range(3):
        built = []
        stretches = iter([Stretch(Built(range(12)), lengths, Position(), 12)])
        next(Batching(12, None, rank, 3).steps(stretches, list))
        shares.append(sorted(built))
    # 12, 11 and 10 tokens, then 9 to who had 10; at 19 each, 6, 5 and 4 in turn; then 3 to who had 4.
    assert shares == [[0, 5, 6, 11], [1, 4, 7, 10], [2, 3, 8, 9]]


def test_neither_bound_changes_what_is_in_a_step(store):
    whole = take(loader(store, micro=None), 5)
    for other in (take(loader(store, micro=3), 5), take(loader(store, micro=None), 5, tokens=70)):
        assert [rows(step) for step in whole] == [rows(step) for step in other]
        assert all(len(step.micro_batches) > 1 for step in other)


def test_a_forward_pass_holds_no_more_tokens_than_it_may_the_longest_first(store):
    for step in take(loader(store, micro=None), 10, tokens=70):
        assert all(sum(cut) <= 70 for cut in lengths(step))
        in_order = [length for cut in lengths(step) for length in cut]
        assert in_order == sorted(in_order, reverse=True)
    assert all(len(lengths(step)) == 1 for step in take(loader(store, micro=None), 10))


def test_both_bounds_hold_and_what_is_too_long_goes_alone():
    cut = Batching(7, 3).cut(np.array([2, 9, 1, 2, 4, 2, 1]), micro_batch_tokens=6)
    assert [part.tolist() for part in cut] == [[1], [4, 0], [3, 5, 2], [6]]


def test_lengths_are_known_without_building_an_instance(store):
    for rule in (RULE, PairRule(max_seq_length=12), PairRule(max_seq_length=24, next_sentence="off")):
        drawn = draw_epoch(store.split("train"), store.vocabulary, rule)
        assert instance_lengths(drawn).tolist() == [len(drawn[n]["input_ids"]) for n in range(len(drawn))]


@pytest.mark.parametrize("after", [1, 7, 23])
def test_going_on_from_a_position_gives_the_steps_that_would_have_come(store, after):
    straight = take(loader(store), after + 3, tokens=70)
    resumed = take(loader(store), 3, straight[after - 1].position, tokens=70)
    assert torch.equal(ids(straight[after:]), ids(resumed))
    assert all(
        torch.equal(a.micro_batches[0]["labels"], b.micro_batches[0]["labels"])
        for a, b in zip(straight[after:], resumed, strict=True)
    )


def test_steps_run_over_the_end_of_an_epoch_without_losing_an_instance(store):
    source = loader(store)
    num = source.num_instances()
    last = take(source, num // 8 + 1)[-1].position
    assert (last.epoch, last.instance) == (1, (num // 8 + 1) * 8 - num)


@pytest.fixture(scope="module")
def sharded(corpus_dir, tmp_path_factory):
    """The same corpus in a store of many shards."""
    from bertkit.config.data import DataConfig, TokenizerConfig
    from bertkit.data.store import TokenStore
    from bertkit.workflows import prepare as workflow

    folder = tmp_path_factory.mktemp("sharded") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "SHARD_CHARS", 2000)
        config = DataConfig(num_workers=1, heldout_share=0.1, tokenizer=TokenizerConfig(vocab_size=120))
        workflow.prepare(str(corpus_dir), folder, config)
    return TokenStore.open(folder)


def blocked(store, sentences_a_block):
    return PretrainingLoader(
        store.split("train"),
        store.vocabulary,
        PairRule(max_seq_length=512),
        collator=DataCollatorForPretraining(store.vocabulary, packed=True, mask_share=0.0, random_share=0.0),
        seed=0,
        batching=Batching(4, 4),
        sentences_a_block=sentences_a_block,
    )


def walk(source, *, epochs=1):
    """The instances of some epochs, each with the place it stands at."""
    found = []
    for stretch in source.stretches(Position()):
        begin = stretch.begin
        if begin.epoch == epochs:
            return found
        for place in range(begin.instance, stretch.stop):
            found.append((Position(begin.epoch, begin.block, place), stretch.items[place]))
    raise AssertionError("a loader has no end")


def test_a_large_split_is_read_block_by_block_and_still_every_sentence_once_an_epoch(sharded):
    split = sharded.split("train")
    assert len(group_shards(split)) == 1
    assert len(group_shards(split, sentences_a_block=60)) > 3
    special = set(sharded.vocabulary.special_ids)
    stored = sorted(token for shard in split.shards for token in shard.tokens.tolist())
    found = walk(blocked(sharded, 60), epochs=3)
    for epoch in range(3):
        instances = [instance for place, instance in found if place.epoch == epoch]
        tokens = [token for instance in instances for token in instance["input_ids"].tolist()]
        assert sorted(token for token in tokens if token not in special) == stored


def test_going_on_from_any_position_of_many_blocks_gives_the_steps_that_would_have_come(sharded):
    straight = take(blocked(sharded, 60), 40)
    positions = [step.position for step in straight]
    # In every block, in a later epoch, and where a block and an epoch have just ended.
    ends = {
        (place.epoch, place.block): len(blocked(sharded, 60)._draw(place.epoch, place.block)) for place in positions
    }
    assert max(place.block for place in positions) > 3
    assert positions[-1].epoch > 0
    for after in (
        *range(1, 37, 5),
        *(n for n, p in enumerate(positions[:37], 1) if p.instance == ends[p.epoch, p.block]),
    ):
        resumed = take(blocked(sharded, 60), 3, positions[after - 1])
        assert [step.position for step in resumed] == positions[after : after + 3]
        assert torch.equal(ids(straight[after : after + 3]), ids(resumed))


def test_shards_that_were_in_one_block_are_in_others_in_the_next_epoch(sharded):
    split = sharded.split("train")

    def grouped(epoch, seed=0):
        blocks = group_shards(split, seed=seed, epoch=epoch, sentences_a_block=60)
        return [frozenset(shard.path.name for shard in block.shards) for block in blocks]

    names = {shard.name for shard in split.info.shards}
    met = {name: set() for name in names}
    for epoch in range(150):
        groups = grouped(epoch)
        assert sorted(name for group in groups for name in group) == sorted(names)
        for group in groups:
            for name in group:
                met[name] |= group
    # Chance decides who meets whom.
    assert all(companions == names for companions in met.values())
    assert grouped(3) == grouped(3)
    assert grouped(3) != grouped(3, seed=1)


def test_one_block_is_read_in_the_order_that_runs_of_older_versions_go_on_in(sharded):
    (block,) = group_shards(sharded.split("train"), seed=5, epoch=7)
    assert [shard.path.name for shard in block.shards] == [shard.name for shard in sharded.split("train").info.shards]


def test_the_next_block_is_drawn_before_it_is_asked_for(sharded, monkeypatch):
    drawn, source = [], blocked(sharded, 60)
    draw = source._draw
    monkeypatch.setattr(source, "_draw", lambda *place: drawn.append(place) or draw(*place))
    stretches = source.stretches(Position())
    next(stretches)
    assert drawn == [(0, 0)]
    next(stretches)
    assert next(stretches).begin == Position(0, 1)
    assert drawn == [(0, 0), (0, 1)]
    stretches.close()


def test_what_a_loader_has_drawn_is_freed_with_it_without_a_collector(sharded):
    gc.disable()
    try:
        source = blocked(sharded, 60)
        steps = source.steps_here(Position())
        next(steps)
        block = weakref.ref(source._draw(0, 0).block)
        assert block() is not None
        del source, steps
        assert block() is None
    finally:
        gc.enable()


def test_the_instances_of_many_blocks_are_estimated_from_the_first(sharded):
    exact = len(walk(blocked(sharded, 60)))
    assert blocked(sharded, 60).num_instances() == pytest.approx(exact, rel=0.25)
    whole = blocked(sharded, 10**9)
    assert whole.num_instances() == len(walk(whole))


def test_held_out_instances_and_their_masks_are_the_same_every_time(store):
    def batch():
        drawn = draw_epoch(store.split("heldout"), store.vocabulary, RULE, seed=7)
        return DataCollatorForPretraining(store.vocabulary, packed=True)([drawn[place] for place in range(4)])

    first, second = batch(), batch()
    assert (first["labels"] >= 0).any()
    assert torch.equal(first["input_ids"], second["input_ids"])
    assert torch.equal(first["labels"], second["labels"])


def test_an_error_in_the_background_surfaces_where_the_item_would():
    def items():
        yield 1
        raise ValueError("broken shard")

    ahead = Prefetched(items(), depth=2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken shard"):
        next(ahead)


def test_what_runs_ahead_ends_with_its_source_and_can_be_closed_early():
    assert list(Prefetched(iter(range(5)), depth=2)) == list(range(5))
    endless = Prefetched(iter(int, 1), depth=2)
    next(endless)
    endless.close()
    assert not endless._thread.is_alive()
