"""A corpus in parts of about equal size, cut by what it holds alone: never by who works on it."""

from collections.abc import Iterator
from dataclasses import replace

import xxhash

from bertkit.data.corpus import Corpus
from bertkit.data.sources import SourceFile


def cut_corpus(corpus: Corpus, *, part_bytes: int) -> tuple[Corpus, ...]:
    """Neighbouring files in parts of `part_bytes` as they lie on disk; a file is never cut, a Hub data set neither."""
    if not corpus.files:
        return (corpus,)
    return tuple(replace(corpus, files=tuple(group)) for group in _groups(corpus.files, part_bytes=part_bytes))


def part_bytes(part: Corpus) -> int:
    """Bytes of a part's files as they lie on disk; 1 at the least, for a Hub data set."""
    return max(sum(_size(file) for file in part.files), 1)


def listing_hash(corpus: Corpus) -> str:
    """Changes when a file comes, goes, or is written anew, as far as the file system tells without reading it."""
    hasher = xxhash.xxh3_128()
    for file in corpus.files:
        hasher.update(repr((file.name, _size(file), file.filesystem.checksum(file.path))).encode())
    return hasher.hexdigest() if corpus.files else xxhash.xxh3_128_hexdigest(corpus.location.encode())


def _groups(files: tuple[SourceFile, ...], *, part_bytes: int) -> Iterator[list[SourceFile]]:
    group: list[SourceFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += _size(file)
        if size >= part_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def _size(file: SourceFile) -> int:
    # Some servers do not tell.
    return int(file.filesystem.size(file.path) or 0)
