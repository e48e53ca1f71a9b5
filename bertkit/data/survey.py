"""A first look through a whole corpus: what is in it, what is held out, and what its vocabulary must know."""

import heapq
import logging
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bertkit.data.corpus import Corpus, RawDocument, ReadingNotes, line_hashes
from bertkit.data.heldout import HashArray, choose_heldout
from bertkit.data.seen import RepeatedShare, contains
from bertkit.data.tokenizer import CharacterCounts

logger = logging.getLogger(__name__)

EXCERPT_CHARS: Final = 2_500
EXCERPTS: Final = 200
HIGH_DUPLICATE_SHARE: Final = 0.1
SAMPLING_RANGE: Final = 1 << 32


@dataclass(frozen=True)
class Survey:
    """Counts over the documents that are left, `excerpts` of an even sample of them, and what reading left out."""

    documents: int
    chars: int
    notes: ReadingNotes
    heldout: HashArray
    duplicate_line_share: float
    characters: dict[str, int]
    excerpts: tuple[str, ...]

    def is_heldout(self, document: RawDocument) -> bool:
        """Whether this document is kept out of training."""
        return contains(self.heldout, document.digest)

    def report(self) -> None:
        """Log what was found, one sentence a finding."""
        for decision, files in self.notes.decisions.items():
            logger.info("%s: %s", f"{files:,} file{'s' if files > 1 else ''}", decision)
        self.notes.dropped.report()
        logger.info("%s", f"read {self.documents:,} documents of {self.chars:,} characters")
        logger.info("%s", f"{len(self.heldout):,} documents, chosen by their content, are held out of training")
        if self.duplicate_line_share > HIGH_DUPLICATE_SHARE:
            logger.warning(
                "%s",
                f"{self.duplicate_line_share:.0%} of the longer lines are copies of an earlier line, a known cause of "
                "losses that stay high; drop them with --set data.drop_duplicate_lines=true",
            )


def survey_corpus(corpus: Corpus, *, heldout_share: float, on_chars: Callable[[int], None]) -> Survey:
    """Read all of a corpus once; `on_chars` hears how many characters were read so far.

    Memory grows by 16 bytes a document. Raises CorpusError when a file cannot be read.
    """
    notes = ReadingNotes()
    notes.dropped.merge(corpus.unsupported)
    digests, sizes = array("Q"), array("q")
    counts = SurveyCounts()
    for document in corpus.documents(notes):
        digests.append(document.digest)
        sizes.append(len(document.text))
        counts.add(document)
        on_chars(counts.chars)
    heldout = choose_heldout(np.array(digests, np.uint64), np.array(sizes, np.int64), share=heldout_share)
    return counts.surveyed(notes, heldout)


class SurveyCounts:
    """What a survey counts; what was counted of the parts of a corpus, in order, adds up to what it counts of it."""

    def __init__(self) -> None:
        self.documents = self.chars = 0
        self._lines, self._characters, self._excerpts = RepeatedShare(), CharacterCounts(), _EvenSample()

    def add(self, document: RawDocument) -> None:
        """Count one document."""
        self.documents += 1
        self.chars += len(document.text)
        for line in line_hashes(document.text):
            self._lines.add(line)
        self._characters.add(document.text)
        self._excerpts.add(document)

    def as_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything counted, as arrays by name."""
        characters = self._characters.as_dict()
        return {
            "totals": np.array([self.documents, self.chars, self._lines.mask], np.int64),
            "lines": self._lines.sample,
            "characters": np.array(list(map(ord, characters)), np.int64),
            "character_counts": np.array(list(characters.values()), np.int64),
            "excerpt_keys": np.array(self._excerpts.keys(), np.int64),
            "excerpts": np.array(self._excerpts.texts(), np.str_),
        }

    def merge(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Count what was counted of the next part."""
        documents, chars, mask = arrays["totals"].tolist()
        self.documents += documents
        self.chars += chars
        self._lines.merge(arrays["lines"], mask)
        self._characters.merge(arrays["characters"], arrays["character_counts"])
        for key, text in zip(arrays["excerpt_keys"].tolist(), arrays["excerpts"].tolist(), strict=True):
            self._excerpts.add_text(key, text)

    def surveyed(self, notes: ReadingNotes, heldout: HashArray) -> Survey:
        """The survey of what was counted."""
        return Survey(
            documents=self.documents,
            chars=self.chars,
            notes=notes,
            heldout=heldout,
            duplicate_line_share=self._lines.share(),
            characters=self._characters.as_dict(),
            excerpts=self._excerpts.texts(),
        )


def training_texts(corpus: Corpus, survey: Survey, *, max_bytes: int) -> Iterator[str]:
    """The text to train a vocabulary on: all but the held-out documents, or an even sample by content hash."""
    share = max_bytes / max(_utf8_bytes(survey.characters), 1)
    for document in corpus.documents():
        if is_sampled(document.digest, share) and not survey.is_heldout(document):
            yield document.text


def is_sampled(digest: int, share: float) -> bool:
    """Whether a document is among this share of them; above 1, all are."""
    return digest % SAMPLING_RANGE < share * SAMPLING_RANGE


class _EvenSample:
    """The beginnings of the documents with the smallest sampling keys: every document is as likely as any other."""

    def __init__(self) -> None:
        self._largest_first: list[tuple[int, str]] = []

    def add(self, document: RawDocument) -> None:
        self.add_text(-(document.digest % SAMPLING_RANGE), document.text[:EXCERPT_CHARS])

    def add_text(self, key: int, text: str) -> None:
        if len(self._largest_first) < EXCERPTS:
            heapq.heappush(self._largest_first, (key, text))
        elif key > self._largest_first[0][0]:
            heapq.heapreplace(self._largest_first, (key, text))

    def keys(self) -> tuple[int, ...]:
        return tuple(key for key, _ in sorted(self._largest_first, reverse=True))

    def texts(self) -> tuple[str, ...]:
        return tuple(text for _, text in sorted(self._largest_first, reverse=True))


def _utf8_bytes(characters: dict[str, int]) -> int:
    return sum(len(character.encode()) * count for character, count in characters.items())
