"""A store of ten thousand shards: few files open at a time, little memory, and no file read that is not needed."""

import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from toy_stores import write_store

from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import OPEN_SHARDS, PairRule
from bertkit.data.loader import Batching, Position, PretrainingLoader, count_blocks
from bertkit.data.shard_files import LocalShards
from bertkit.data.store import TokenStore

SHARDS = 10_000
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="counts what is open in /proc")


@pytest.fixture(scope="module")
def many(store, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("many") / "store", like=store, shards=SHARDS, distinct=16)


def loader(opened, *, sentences_a_block):
    return PretrainingLoader(
        opened.split("train"),
        opened.vocabulary,
        PairRule(max_seq_length=64),
        collator=DataCollatorForPretraining(opened.vocabulary, packed=True),
        seed=0,
        batching=Batching(64),
        sentences_a_block=sentences_a_block,
    )


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped_shards(folder):
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


@needs_proc
@pytest.mark.parametrize("sentences_a_block", [10**9, 6_000])
def test_an_epoch_over_ten_thousand_shards_keeps_few_of_them_open(many, sentences_a_block):
    files = open_files()
    opened = TokenStore.open(many)
    source = loader(opened, sentences_a_block=sentences_a_block)
    tokens, most_files, most_mapped, shards = 0, 0, 0, 0
    for stretch in source.stretches(Position()):
        if stretch.begin.epoch:
            break
        shards += len(stretch.items.block.shards) if stretch.begin.instance == 0 else 0
        for place in range(stretch.begin.instance, stretch.stop):
            tokens += len(stretch.items[place]["input_ids"])
            if place % 500 == 0:
                most_files, most_mapped = max(most_files, open_files()), max(most_mapped, mapped_shards(many))
    assert shards == SHARDS
    assert tokens > opened.split("train").num_tokens
    assert 0 < most_mapped <= 2 * OPEN_SHARDS + 2  # of this block, of the next one, and what is just being opened
    assert most_files < files + 50


def test_ten_thousand_shards_take_little_memory(many):
    tracemalloc.start()
    try:
        opened = TokenStore.open(many)
        steps = loader(opened, sentences_a_block=6_000).steps()
        assert len(list(islice(steps, 30))) == 30
        steps.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_a_place_deep_in_the_epoch_is_reached_by_opening_its_own_block_only(many, monkeypatch):
    opened_names = set()
    open_shard = LocalShards.open

    def noted(self, info):
        opened_names.add(info.name)
        return open_shard(self, info)

    monkeypatch.setattr(LocalShards, "open", noted)
    opened = TokenStore.open(many)
    num_blocks = count_blocks(opened.split("train"), sentences_a_block=6_000)
    assert num_blocks == 10
    steps = loader(opened, sentences_a_block=6_000).steps(Position(epoch=1000, block=7, instance=3))
    next(steps)
    steps.close()
    assert 0 < len(opened_names) <= SHARDS // num_blocks
    assert np.all([name.startswith("train-") for name in opened_names])
