"""The text that is measured on: a corpus or an even sample of it, cut into sentences once and prepared for a while."""

import contextlib
import heapq
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertkit.config.data import DataConfig
from bertkit.config.schema import PretrainConfig
from bertkit.data.corpus import Corpus, RawDocument, open_corpus
from bertkit.data.demo_corpus import write_demo_corpus
from bertkit.data.sources import SourceFile
from bertkit.data.store import TokenStore, is_store
from bertkit.errors import CorpusError
from bertkit.workflows.pinned import open_store
from bertkit.workflows.prepare import prepare, reading_options
from bertkit.workflows.watch import Watcher

SAMPLE_CHARS = 8_000_000
# Of a corpus beyond this, whole files drawn at random are read, and the rest is taken to be like them.
MOST_BYTES_READ = 1_000_000_000
SAMPLE_FILE = "sample.jsonl"
LEAST_DOCUMENTS = 20
# How a sample is read: it has been read once already.
AS_SAMPLED = {"text_column": "text", "document": "auto", "sentences": "line", "encoding": "utf-8"}


@dataclass(frozen=True)
class Sample:
    """A prepared store, and how much more text the whole corpus holds.

    scale: the corpus over the store, 1 where the store is the corpus. documents: of the store. documents_read: those
    the estimate rests on; None where nothing is estimated.
    """

    store: TokenStore
    scale: float = 1.0
    documents_read: int | None = None


@contextlib.contextmanager
def prepared_sample(
    config: PretrainConfig, corpus: str | None, *, watch: Watcher, sample_chars: int = SAMPLE_CHARS
) -> Iterator[tuple[Sample, Path]]:
    """A store to measure on, and a folder for whatever else is needed; what was made is removed behind it.

    A folder that `bertkit prepare` made is opened as it is; any other corpus is sampled and prepared. None: the demo
    corpus.

    Raises:
        CorpusError: there is no usable text.
    """
    with tempfile.TemporaryDirectory(prefix="bertkit-bench-") as name:
        folder = Path(name)
        if corpus is not None and is_store(corpus):
            yield Sample(open_store(corpus, config.data)), folder
            return
        source, data = open_text(config.data, corpus, folder=folder, watch=watch)
        scale, documents = write_sample(source, data, folder / SAMPLE_FILE, chars=sample_chars, watch=watch)
        needs_pairs = config.pairs.next_sentence == "nsp"
        watch.begin("preparing it")
        prepare(
            str(folder / SAMPLE_FILE),
            folder / "store",
            data.model_copy(update=AS_SAMPLED),
            needs_pairs=needs_pairs,
            on_progress=watch.work,
        )
        yield Sample(TokenStore.open(folder / "store"), scale, documents if scale > 1 else None), folder


def open_text(data: DataConfig, corpus: str | None, *, folder: Path, watch: Watcher) -> tuple[Corpus, DataConfig]:
    """A corpus of text, the demo corpus if None, and how it is read.

    Raises:
        CorpusError: it cannot be found.
    """
    watch.begin("reading the text")
    if corpus is None:
        # A sentence a line, as the demo reads it.
        data = data.model_copy(update={"sentences": "line", "text_column": "text"})
        corpus = str(write_demo_corpus(folder / "demo").path)
    if is_store(corpus):
        raise CorpusError(f"{corpus} is prepared already: give the text it was made of")
    return open_corpus(corpus, reading_options(data)), data


def write_sample(source: Corpus, data: DataConfig, path: Path, *, chars: int, watch: Watcher) -> tuple[float, int]:
    """Writes documents of about `chars` characters, chosen by their content; returns corpus over sample, and how many
    documents were read to know it.

    Raises:
        CorpusError: there is no document, or the corpus is on the Hub, whose size nobody knows before it was read.
    """
    files, share_read = _files_to_read(source)
    kept = _Kept(chars)
    for document in Corpus(source.location, files, source.options).documents():
        kept.add(document)
        watch.work("reading", kept.chars_seen, None)
    if not kept.documents_seen:
        raise CorpusError(f"there is no usable document in {source.location!r}")
    with path.open("w", encoding="utf-8") as file:
        for document in kept.documents():
            text = "\n".join(document.split(data.language).sentences)
            file.write(json.dumps({"text": text}) + "\n")
    return kept.chars_seen / kept.chars / share_read, kept.documents_seen


class _Kept:
    """The documents of the smallest hashes, as many as fit: an even sample, in one pass."""

    def __init__(self, chars: int) -> None:
        self._limit = chars
        self._heap: list[tuple[int, int, RawDocument]] = []
        self.chars = self.chars_seen = self.documents_seen = 0

    def add(self, document: RawDocument) -> None:
        """Takes a document in, and those of the largest hashes out."""
        self.documents_seen += 1
        self.chars_seen += len(document.text)
        self.chars += len(document.text)
        heapq.heappush(self._heap, (-document.digest, self.documents_seen, document))
        while len(self._heap) > LEAST_DOCUMENTS and self.chars - len(self._heap[0][2].text) >= self._limit:
            self.chars -= len(heapq.heappop(self._heap)[2].text)

    def documents(self) -> list[RawDocument]:
        """What was kept, in the order it was read."""
        return [document for _, _, document in sorted(self._heap, key=lambda each: each[1])]


def _files_to_read(source: Corpus) -> tuple[tuple[SourceFile, ...], float]:
    """All files, or so many drawn at random that they are enough; and the share of all bytes that they hold."""
    if not source.files:
        raise CorpusError(
            f"how large {source.location!r} is shows only when it is read: run bertkit prepare on it, and name the "
            "folder that it makes"
        )
    sizes = [int(file.filesystem.size(file.path) or 1) for file in source.files]
    drawn, total = [], 0
    for number in np.random.default_rng(0).permutation(len(sizes)):
        if total and total + sizes[number] > MOST_BYTES_READ:
            break
        drawn.append(int(number))
        total += sizes[number]
    return tuple(source.files[number] for number in sorted(drawn)), total / sum(sizes)
