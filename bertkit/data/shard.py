"""One file of a token store: an Arrow IPC file of one record batch, a row a document, read through a memory map."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from bertkit.data.corpus import RawDocument
from bertkit.data.encode import (
    BoolArray,
    EncodedDocuments,
    EncodingOptions,
    IntArray,
    TokenArray,
    encode_documents,
    work_digest,
)
from bertkit.data.manifest import ShardInfo
from bertkit.errors import CorpusError
from bertkit.whole import written_whole

DIGEST_KEY: Final = b"bertkit.work"
EMPTY_SENTENCES_KEY: Final = b"bertkit.empty_sentences"
EMPTY_DOCUMENTS_KEY: Final = b"bertkit.empty_documents"


class Shard:
    """The documents of one file, as zero-copy views of a memory map."""

    def __init__(self, path: Path, open_map: Callable[[], Any] | None = None) -> None:
        self.path = path
        self._open_map = open_map or partial(pa.memory_map, str(path))

    def reopened(self) -> "Shard":
        """The same file, nothing of it read yet: what is read through it is let go with it."""
        return Shard(self.path, self._open_map)

    @cached_property
    def tokens(self) -> TokenArray:
        """[n] token ids of all sentences, one after the other, without special tokens."""
        return np.asarray(self._sentences.values.values.to_numpy(zero_copy_only=True))

    @cached_property
    def sentence_offsets(self) -> IntArray:
        """[S + 1] where each sentence begins in `tokens`; the last entry is its length."""
        return np.asarray(self._sentences.values.offsets.to_numpy(), dtype=np.int64)

    @cached_property
    def document_offsets(self) -> IntArray:
        """[D + 1] where each document begins among the sentences; the last entry is their number."""
        return np.asarray(self._sentences.offsets.to_numpy(), dtype=np.int64)

    @cached_property
    def word_starts(self) -> BoolArray | None:
        """[n] True where a token begins a word, if the store was prepared with a word segmenter."""
        if "word_starts" not in self._batch.schema.names:
            return None
        return np.asarray(self._batch.column("word_starts").values.values.to_numpy(zero_copy_only=False))

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """Where each document comes from."""
        return tuple(self._batch.column("id").to_pylist())

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What the writer noted beside the rows."""
        return dict(self._batch.schema.metadata or {})

    @cached_property
    def _batch(self) -> Any:
        try:
            # What was read stays mapped; an open file each would be too many.
            with self._open_map() as mapped:
                return pa.ipc.open_file(mapped).get_batch(0)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorpusError(
                f"{self.path} is not a whole shard ({error}): delete the store and prepare it again"
            ) from error

    @property
    def _sentences(self) -> Any:
        return self._batch.column("sentences")


@dataclass(frozen=True)
class ShardReport:
    """What a finished shard holds, how often each id occurs in it, and of how many characters of text it was made."""

    split: str
    chars: int
    info: ShardInfo
    id_counts: IntArray
    empty_sentences: int
    empty_documents: int


@dataclass(frozen=True)
class ShardWork:
    """The documents one file is to hold."""

    split: str
    number: int
    documents: tuple[RawDocument, ...]

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"{self.split}-{self.number:05d}.arrow"

    @property
    def chars(self) -> int:
        """Characters of text in all documents."""
        return sum(len(document.text) for document in self.documents)


def cut_shards(
    documents: Iterable[RawDocument], *, split_of: Callable[[RawDocument], str], shard_chars: int
) -> Iterator[ShardWork]:
    """Gather documents in order into shards of about `shard_chars` characters, each of one split."""
    waiting: dict[str, list[RawDocument]] = {}
    chars: Counter[str] = Counter()
    made: Counter[str] = Counter()

    def gathered(split: str) -> ShardWork:
        work = ShardWork(split, made[split], tuple(waiting.pop(split)))
        made[split] += 1
        chars[split] = 0
        return work

    for document in documents:
        split = split_of(document)
        waiting.setdefault(split, []).append(document)
        chars[split] += len(document.text)
        if chars[split] >= shard_chars:
            yield gathered(split)
    for split in sorted(waiting):
        yield gathered(split)


def make_shard(work: ShardWork, folder: Path, options: EncodingOptions) -> ShardReport:
    """Encode documents into a file, unless the very same work lies there finished. Any process anywhere may do it."""
    path = folder / work.name
    digest = work_digest(work.documents, options)
    if shard_digest(path) != digest:
        write_shard(path, encode_documents(work.documents, options), digest=digest)
    return _describe(work, path, vocab_size=options.vocab_size)


def write_shard(path: Path, documents: EncodedDocuments, *, digest: str) -> None:
    """Write a shard aside, sync and rename it, so that a file of that name is always whole."""
    buffer = _serialize(documents, digest=digest)
    with written_whole(path) as aside, aside.open("wb") as file:
        file.write(buffer)


def shard_digest(path: Path) -> str | None:
    """The `digest` a shard was written with; None when there is no whole shard."""
    if not path.exists():
        return None
    try:
        return Shard(path).metadata[DIGEST_KEY].decode()
    except (CorpusError, KeyError):
        return None


def _describe(work: ShardWork, path: Path, *, vocab_size: int) -> ShardReport:
    """Read a shard's counts and hash from the file itself, whoever wrote it."""
    shard = Shard(path)
    content = path.read_bytes()
    info = ShardInfo(
        name=path.name,
        size=len(content),
        hash=xxhash.xxh3_128_hexdigest(content),
        documents=len(shard.document_offsets) - 1,
        sentences=len(shard.sentence_offsets) - 1,
        tokens=len(shard.tokens),
    )
    return ShardReport(
        split=work.split,
        chars=work.chars,
        info=info,
        id_counts=np.bincount(shard.tokens, minlength=vocab_size),
        empty_sentences=int(shard.metadata[EMPTY_SENTENCES_KEY]),
        empty_documents=int(shard.metadata[EMPTY_DOCUMENTS_KEY]),
    )


def _serialize(documents: EncodedDocuments, *, digest: str) -> Any:
    sentence_offsets = _offsets(documents.sentence_lengths)
    document_offsets = _offsets(documents.document_lengths)

    def nested(values: Any) -> Any:
        return pa.ListArray.from_arrays(document_offsets, pa.ListArray.from_arrays(sentence_offsets, pa.array(values)))

    columns = {"id": pa.array(documents.ids, type=pa.string()), "sentences": nested(documents.tokens)}
    if documents.word_starts is not None:
        columns["word_starts"] = nested(documents.word_starts)
    batch = pa.record_batch(columns).replace_schema_metadata(
        {
            DIGEST_KEY: digest,
            EMPTY_SENTENCES_KEY: str(documents.empty_sentences),
            EMPTY_DOCUMENTS_KEY: str(documents.empty_documents),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _offsets(lengths: IntArray) -> Any:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=pa.int32())
