"""The steps of the pipelines: read a part of the corpus, count its documents, make shards of them.

Each step is a pure function of its task's number and of files that are there before it runs, and its own files are
whole or absent: a task may be run again, anywhere, as often as machines fail.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers.base import BaseReader

from bertkit.data.any_folder import AnyFolder
from bertkit.data.corpus import Corpus, RawDocument, ReadingNotes, layout_of_row
from bertkit.data.encode import EncodingOptions
from bertkit.data.manifest import ShardInfo
from bertkit.data.seen import hash_text
from bertkit.data.shard import ShardReport, ShardWork, make_shard
from bertkit.data.shard_plan import DROPPED, FATES, PlannedShard
from bertkit.data.spill import ByteArray, Spill, read_spilled
from bertkit.data.store import SHARD_FOLDER, TOKENIZER_FOLDER
from bertkit.data.survey import SurveyCounts, is_sampled
from bertkit.data.tokenizer import WordPieceOptions
from bertkit.data.word_counts import WordCounts
from bertkit.errors import CorpusError
from bertkit.workflows.prepare import Encoded


class CorpusReader(BaseReader):
    """Reads part number `rank` of a corpus by bertkit's own rules, and notes what was left out and why."""

    name = "bertkit corpus"

    def __init__(self, parts: Sequence[Corpus], work: AnyFolder) -> None:
        super().__init__()
        self.parts, self.work = parts, work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of the part; the notes are written after the last one."""
        part, notes, documents = self.parts[rank], ReadingNotes(), 0
        for document in part.documents(notes):
            documents += 1
            yield Document(text=document.text, id=document.id, metadata={"as read": document})
        values = {
            "documents": documents,
            "counts": notes.dropped.counts,
            "examples": notes.dropped.examples,
            "decisions": notes.decisions,
            "hashes": [file.content_hash() for file in part.files],
        }
        self.work.write_json(notes_of(rank), values)


class SpillDocuments(PipelineStep):
    """Keeps what passed the filters for the passes that follow."""

    name, type = "bertkit spill", "bertkit"

    def __init__(self, work: AnyFolder, *, sentences: str) -> None:
        super().__init__()
        self.work, self.sentences = work, sentences

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Pass every document on."""
        with Spill(self.work, rank) as spill:
            for document in data:
                # An extractor may have left nothing of it.
                if document.text.strip():
                    spill.add(self._as_it_is_now(document))
                    yield document

    def _as_it_is_now(self, document: Document) -> RawDocument:
        read: RawDocument = document.metadata["as read"]
        if document.text == read.text:
            return read
        layout = layout_of_row(document.text, sentences=self.sentences)
        return RawDocument(read.id, document.text, layout, hash_text(document.text))


class CountDocuments(PipelineStep):
    """Surveys the documents of a part that stay, and counts the words of those the vocabulary is trained on."""

    name, type = "bertkit survey", "bertkit"

    def __init__(self, work: AnyFolder, *, training_share: float, options: WordPieceOptions | None) -> None:
        super().__init__()
        self.work, self.training_share, self.options = work, training_share, options

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write the counts of the part; there is nothing to pass on."""
        fates = self.work.read_arrays(fates_of(rank))["fates"]
        counts = SurveyCounts()
        with tempfile.TemporaryDirectory() as folder:
            words = WordCounts(Path(folder), self.options) if self.options else None
            for row, document in read_spilled(self.work, rank, fates):
                counts.add(document)
                if words and fates[row] == FATES["train"] and is_sampled(document.digest, self.training_share):
                    words.add(document.text)
            if words:
                words.save(Path(folder) / "words.arrow")
                self.work.put(Path(folder) / "words.arrow", words_of(rank))
        self.work.write_arrays(survey_of(rank), **counts.as_arrays())
        yield from ()


class MakeShards(PipelineStep):
    """Encodes the documents of task number `rank`'s shards and puts the shards where the store is made."""

    name, type = "bertkit shards", "bertkit"

    def __init__(
        self, work: AnyFolder, output: AnyFolder, tasks: Sequence[Sequence[PlannedShard]], options: EncodingOptions
    ) -> None:
        super().__init__()
        self.work, self.output, self.tasks, self.options = work, output, tasks, options

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write the shards and their reports; there is nothing to pass on."""
        with tempfile.TemporaryDirectory() as folder:
            tokenizer_file = Path(folder) / "tokenizer.json"
            self.output.fetch(f"{TOKENIZER_FOLDER}/tokenizer.json", tokenizer_file)
            options = EncodingOptions(**asdict(self.options) | {"tokenizer_file": str(tokenizer_file)})
            encoded = Encoded(options.vocab_size)
            for shard in self.tasks[rank]:
                encoded.add(self._make(shard, Path(folder), options))
        values = [asdict(report) | {"id_counts": []} for report in encoded.reports]
        self.work.write_json(reports_of(rank), values)
        self.work.write_arrays(unigrams_of(rank), counts=encoded.unigram_counts)
        yield from ()

    def _make(self, shard: PlannedShard, folder: Path, options: EncodingOptions) -> ShardReport:
        documents = tuple(documents_of(shard, self.work))
        if sum(len(document.text) for document in documents) != shard.chars:
            raise CorpusError(f"{self.work.url} was changed meanwhile: delete {self.output.url} and prepare again")
        work = ShardWork(shard.split, shard.number, documents)
        report = make_shard(work, folder, options)
        self.output.put(folder / work.name, f"{SHARD_FOLDER}/{work.name}")
        (folder / work.name).unlink()
        return report


def documents_of(shard: PlannedShard, work: AnyFolder) -> Iterator[RawDocument]:
    """The documents of a shard in order, from the parts they lie in."""
    for part in range(shard.first[0], shard.last[0] + 1):
        wanted: ByteArray = work.read_arrays(fates_of(part))["fates"] == FATES[shard.split]
        if part == shard.last[0]:
            wanted[shard.last[1] + 1 :] = DROPPED
        first = shard.first[1] if part == shard.first[0] else 0
        yield from (document for _, document in read_spilled(work, part, wanted, first=first))


def read_reports(work: AnyFolder, tasks: int, *, vocab_size: int) -> Encoded:
    """What all tasks said of their shards."""
    encoded = Encoded(vocab_size)
    for task in range(tasks):
        for values in work.read_json(reports_of(task)):
            info = ShardInfo(**values["info"])
            encoded.reports.append(ShardReport(**values | {"info": info, "id_counts": np.empty(0, np.int64)}))
        encoded.unigram_counts += work.read_arrays(unigrams_of(task))["counts"]
    return encoded


def notes_of(part: int) -> str:
    """The file of what reading a part found out."""
    return f"notes-{part:05d}.json"


def fates_of(part: int) -> str:
    """The file of what becomes of each document of a part."""
    return f"fates-{part:05d}.npz"


def survey_of(part: int) -> str:
    """The file of what was counted of a part."""
    return f"survey-{part:05d}.npz"


def words_of(part: int) -> str:
    """The file of how often each word occurs in a part."""
    return f"words-{part:05d}.arrow"


def reports_of(task: int) -> str:
    """The file of what a task says of its shards."""
    return f"reports-{task:05d}.json"


def unigrams_of(task: int) -> str:
    """The file of how often each id occurs in a task's shards of the train split."""
    return f"unigrams-{task:05d}.npz"
