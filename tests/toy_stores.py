"""Token stores of as many shards as one likes, made of random ids."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash

from bertkit.data.encode import EncodedDocuments
from bertkit.data.manifest import ShardInfo, SplitInfo
from bertkit.data.shard import write_shard
from bertkit.data.store import SHARD_FOLDER, TokenStore


def write_store(
    folder: Path, *, like: TokenStore, shards: int, documents: int = 2, sentences: int = 3, distinct: int | None = None
) -> Path:
    """A store with the tokenizer and the held-out documents of another, and `shards` small files to train on.

    Beyond `distinct` they hold the same again, under names of their own.
    """
    shutil.copytree(like.path, folder, ignore=shutil.ignore_patterns("train-*"))
    draw, train = np.random.default_rng(0), []
    for number in range(shards):
        path = folder / SHARD_FOLDER / f"train-{number:05d}.arrow"
        if distinct is None or number < distinct:
            train.append(_write_shard(path, documents, sentences, like, draw))
        else:
            same = train[number % distinct]
            path.hardlink_to(path.with_name(same.name))
            train.append(replace(same, name=path.name))
    splits = {**like.manifest.splits, "train": SplitInfo(tuple(train))}
    manifest = replace(like.manifest, splits=splits, fingerprint=f"{shards} shards of {documents} x {sentences}")
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _write_shard(path: Path, documents: int, sentences: int, like: TokenStore, draw: np.random.Generator) -> ShardInfo:
    lengths = draw.integers(3, 12, size=documents * sentences)
    encoded = EncodedDocuments(
        ids=tuple(f"{path.stem}-{number}" for number in range(documents)),
        tokens=draw.integers(5, like.vocabulary.size, size=int(lengths.sum())).astype(np.uint16),
        sentence_lengths=lengths,
        document_lengths=np.full(documents, sentences),
        word_starts=None,
        empty_sentences=0,
        empty_documents=0,
    )
    write_shard(path, encoded, digest=path.name)
    content = path.read_bytes()
    return ShardInfo(
        name=path.name,
        size=len(content),
        hash=xxhash.xxh3_128_hexdigest(content),
        documents=documents,
        sentences=documents * sentences,
        tokens=int(lengths.sum()),
    )
