"""Stores at a URL: fetched shard by shard into a bounded folder, compared with the manifest, shared by processes."""

import multiprocessing
import os
import shutil
import uuid
from itertools import islice
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from toy_stores import write_store

from bertkit.data.collate import DataCollatorForPretraining
from bertkit.data.instances import PairRule
from bertkit.data.loader import Batching, PretrainingLoader
from bertkit.data.shard_cache import ABANDONED_S, StoreCache
from bertkit.data.store import TokenStore, is_store
from bertkit.errors import CorpusError


@pytest.fixture(scope="module")
def local(store, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "store", like=store, shards=30)


@pytest.fixture
def url(local):
    """The store in a bucket of its own."""
    memory = fsspec.filesystem("memory")
    name = f"memory://bucket-{uuid.uuid4().hex}/store"
    memory.put(str(local), name, recursive=True)
    yield name
    memory.rm(name, recursive=True)


@pytest.fixture
def cache(tmp_path):
    return StoreCache(tmp_path / "cache")


def ids_of(opened, *, num=12):
    """What a run would be trained on; six blocks an epoch."""
    source = PretrainingLoader(
        opened.split("train"),
        opened.vocabulary,
        PairRule(max_seq_length=32),
        collator=DataCollatorForPretraining(opened.vocabulary, packed=True),
        seed=0,
        batching=Batching(8),
        sentences_a_block=30,
    )
    steps = source.steps()
    try:
        return torch.cat([step.micro_batches[0]["input_ids"] for step in islice(steps, num)])
    finally:
        steps.close()


def cached(cache):
    return sorted(path for path in cache.folder.glob("*/shards/*"))


def remove(url, name):
    fsspec.filesystem("memory").rm(f"{url}/shards/{name}")


def test_a_store_at_a_url_is_read_as_the_one_in_a_folder(local, url, cache):
    folder, remote = TokenStore.open(local), TokenStore.open(url, cache=cache)
    assert remote.fingerprint == folder.fingerprint
    assert remote.location == url
    assert remote.vocabulary == folder.vocabulary
    assert np.array_equal(remote.unigram_counts, folder.unigram_counts)
    assert torch.equal(ids_of(remote), ids_of(folder))
    assert remote.split("heldout").shards[0].document_ids == folder.split("heldout").shards[0].document_ids


def test_a_file_url_is_the_folder_it_means(local, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = TokenStore.open(f"file://{local}")
    assert opened.path == local
    assert is_store(f"file://{local}")
    assert not list(tmp_path.iterdir())


def test_only_what_is_read_is_fetched_and_only_once(url, cache):
    opened = TokenStore.open(url, cache=cache)
    assert cached(cache) == []
    shard = opened.split("train").shards[3]
    assert len(shard.tokens) > 0
    assert [path.name for path in cached(cache)] == ["train-00003.arrow"]
    remove(url, "train-00003.arrow")
    again = TokenStore.open(url, cache=cache).split("train").shards[3]
    assert np.array_equal(again.tokens, shard.tokens)


def test_the_cache_keeps_to_its_bound_and_lets_go_of_what_was_used_longest_ago(local, url, tmp_path):
    size = max(path.stat().st_size for path in (local / "shards").glob("train-*"))
    cache = StoreCache(tmp_path / "cache", max_bytes=4 * size)
    opened = TokenStore.open(url, cache=cache)
    shards = opened.split("train").shards
    for number in range(4):
        assert len(shards[number].tokens) > 0
        os.utime(cache.folder.glob(f"*/shards/train-{number:05d}.arrow").__next__(), (number + 1, number + 1))
    assert len(shards[0].reopened().tokens) > 0  # used again, so it stays
    assert len(shards[4].tokens) > 0
    assert [path.name for path in cached(cache)] == [f"train-{number:05d}.arrow" for number in (0, 2, 3, 4)]
    first = shards[1].tokens.copy()
    assert np.array_equal(shards[1].reopened().tokens, first)


def test_training_through_a_cache_smaller_than_a_block_reads_the_same(local, url, tmp_path):
    size = max(path.stat().st_size for path in (local / "shards").glob("train-*"))
    cache = StoreCache(tmp_path / "cache", max_bytes=2 * size)
    opened = TokenStore.open(url, cache=cache)
    assert torch.equal(ids_of(opened, num=25), ids_of(TokenStore.open(local), num=25))
    assert sum(path.stat().st_size for path in cached(cache)) <= 2 * size


def test_a_mapped_shard_stays_readable_when_its_file_is_deleted_to_make_room(url, cache):
    shard = TokenStore.open(url, cache=cache).split("train").shards[0]
    before = shard.tokens.copy()
    StoreCache(cache.folder, max_bytes=1).make_room(1)
    assert cached(cache) == []
    assert np.array_equal(shard.tokens, before)


def test_what_a_killed_process_had_half_fetched_is_removed_in_time(url, cache):
    opened = TokenStore.open(url, cache=cache)
    folder = opened.path / "shards"
    abandoned, fetched_now = folder / ".a.1.partial", folder / ".a.2.partial"
    for path in (abandoned, fetched_now):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, fetched_now.stat().st_mtime - ABANDONED_S - 1))
    cache.make_room(1)
    assert not abandoned.exists()
    assert fetched_now.exists()


def test_a_missing_or_changed_shard_is_named_and_what_to_do(url, cache):
    opened = TokenStore.open(url, cache=cache)
    remove(url, "train-00001.arrow")
    with pytest.raises(
        CorpusError, match=r"shards/train-00001.arrow is missing at memory://.*copy the store there again"
    ):
        _ = opened.split("train").shards[1].tokens
    memory = fsspec.filesystem("memory")
    name = f"{url}/shards/train-00002.arrow"
    content = bytearray(memory.cat_file(name))
    content[len(content) // 2] ^= 1
    for changed in (bytes(content), bytes(content[:-8])):
        memory.pipe_file(name, changed)
        with pytest.raises(CorpusError, match="train-00002.arrow at .* is not the file its manifest tells of"):
            _ = opened.split("train").shards[2].tokens
    assert cached(cache) == []


def test_what_is_damaged_in_the_cache_only_is_fetched_again(local, url, cache):
    _ = TokenStore.open(url, cache=cache).split("train").shards[0].tokens
    (kept,) = cached(cache)
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), content[:100], b""):
        kept.write_bytes(damaged)
        tokens = TokenStore.open(url, cache=cache).split("train").shards[0].tokens
        assert np.array_equal(tokens, TokenStore.open(local).split("train").shards[0].tokens)


def test_a_store_made_anew_at_the_same_url_is_not_read_from_the_old_ones_files(store, url, cache, tmp_path):
    before = TokenStore.open(url, cache=cache)
    _ = before.split("train").shards[0].tokens
    other = write_store(tmp_path / "other", like=store, shards=2, sentences=5)
    fsspec.filesystem("memory").rm(url, recursive=True)
    fsspec.filesystem("memory").put(str(other), url, recursive=True)
    after = TokenStore.open(url, cache=cache)
    assert after.fingerprint != before.fingerprint
    assert np.array_equal(after.split("train").shards[0].tokens, TokenStore.open(other).split("train").shards[0].tokens)


def test_a_url_without_a_store_an_unfinished_one_and_one_out_of_reach_are_told_apart(url, cache, monkeypatch):
    memory = fsspec.filesystem("memory")
    with pytest.raises(CorpusError, match="there is no token store at memory://nowhere"):
        TokenStore.open("memory://nowhere", cache=cache)
    memory.mv(f"{url}/manifest.json", f"{url}/preparing.json")
    with pytest.raises(CorpusError, match="is not finished"):
        TokenStore.open(url, cache=cache)

    def down(*_, **__):
        raise RuntimeError("no route to host\nand more")

    monkeypatch.setattr(type(memory), "cat_file", down)
    with pytest.raises(CorpusError, match=r"cannot be reached \(no route to host\): check the address"):
        TokenStore.open(url, cache=cache)
    with pytest.raises(CorpusError, match="cannot be reached"):
        TokenStore.open("nonsense://bucket/store", cache=cache)


def test_a_store_is_known_at_a_url(url):
    memory = fsspec.filesystem("memory")
    assert is_store(url)
    assert not is_store("memory://nowhere")
    assert not is_store("nonsense://bucket/store")
    memory.pipe_file(f"{url}/manifest.json", b'{"name": "app"}')
    assert not is_store(url)


def test_a_cache_that_cannot_be_written_is_one_line(url, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match=r"the cache .*file.* cannot be written .*data.cache_dir"):
        TokenStore.open(url, cache=StoreCache(tmp_path / "file"))


def test_a_shard_named_by_a_path_is_refused_before_anything_is_written(url, cache):
    memory = fsspec.filesystem("memory")
    manifest = memory.cat_file(f"{url}/manifest.json").decode()
    for name in ("../../escaped.arrow", "/tmp/escaped.arrow", "..", "a/b.arrow", "a\\\\b.arrow", ""):
        memory.pipe_file(f"{url}/manifest.json", manifest.replace("train-00000.arrow", name).encode())
        with pytest.raises(CorpusError, match=r"manifest\.json is damaged"):
            TokenStore.open(url, cache=cache)
    assert not cached(cache)


def read_all(location, folder, max_bytes, seed):
    """What another process of the machine does: reads every shard a few times, in an order of its own."""
    opened = TokenStore.open(location, cache=StoreCache(Path(folder), max_bytes))
    shards = opened.split("train").shards
    total = 0
    for number in np.random.default_rng(seed).permutation(3 * len(shards)):
        total += int(shards[number % len(shards)].reopened().tokens.sum())
    return total


def test_processes_share_a_cache_in_which_each_takes_the_others_room(local, tmp_path):
    # To us a remote file system like any other, over files that other processes see too.
    url = f"simplecache::file://{local}"
    size = max(path.stat().st_size for path in (local / "shards").glob("train-*"))
    folder, max_bytes = tmp_path / "cache", 5 * size
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        found = pool.starmap(read_all, [(url, str(folder), max_bytes, seed) for seed in range(2)])
    expected = 3 * sum(int(shard.tokens.sum()) for shard in TokenStore.open(local).split("train").shards)
    assert found == [expected, expected]
    assert 0 < sum(path.stat().st_size for path in folder.glob("*/shards/*")) <= max_bytes
    assert not list(folder.glob("*/shards/.*.partial"))
    shutil.rmtree(folder)
