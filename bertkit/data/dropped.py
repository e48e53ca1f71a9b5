"""What is left out of a corpus, counted by reason, with the first places it was met: nothing is lost silently."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

logger = logging.getLogger(__name__)

EXAMPLES_KEPT: Final = 3

EMPTY: Final = "empty"
UNDECODABLE: Final = "undecodable"
BINARY: Final = "binary"
TOO_LONG: Final = "too long"
DUPLICATE: Final = "duplicate"
INVALID_ROW: Final = "invalid row"
UNSUPPORTED: Final = "unsupported file"
DUPLICATE_LINE: Final = "duplicate line"
ALL_DUPLICATE_LINES: Final = "duplicate lines only"
FILTERED: Final = "filtered"
NEAR_DUPLICATE: Final = "near duplicate"
EMPTY_SENTENCE: Final = "sentence without tokens"

# What a user reads about each reason; those that need attention say what to do.
EXPLANATIONS: Final = {
    EMPTY: "documents were empty",
    DUPLICATE: "documents were exact copies of an earlier one",
    DUPLICATE_LINE: "lines of 20 or more characters were copies of an earlier one",
    ALL_DUPLICATE_LINES: "documents held nothing but such lines",
    FILTERED: "documents were dropped by data.cluster.filters",
    NEAR_DUPLICATE: "documents were nearly the same as another one (MinHash)",
    EMPTY_SENTENCE: "sentences held no token",
    UNDECODABLE: "documents were not valid text in the given encoding: if the files are in another one, set it, "
    "for example with --set data.encoding=latin-1",
    BINARY: "documents held NUL characters, so they are no text: remove these files, "
    "or set data.encoding if they are UTF-16",
    TOO_LONG: "documents exceeded data.max_document_chars: raise it, "
    "or cut them with data.document=blank-line or heading:REGEX",
    INVALID_ROW: "rows could not be read, or held something else than text in the text column",
    UNSUPPORTED: "files were neither .txt, .jsonl, .csv nor .parquet (plain, .gz, .bz2, .xz or .zst): "
    "name such a file or a pattern itself to read it as plain text",
}
HARMLESS: Final = (EMPTY, DUPLICATE, DUPLICATE_LINE, ALL_DUPLICATE_LINES, FILTERED, NEAR_DUPLICATE, EMPTY_SENTENCE)


@dataclass
class Dropped:
    """Counts by reason, and the first few places where each was met."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str = "", *, count: int = 1) -> None:
        """Count something left out; `where` is a document, row or file a user can find."""
        self.counts[reason] += count
        places = self.examples.setdefault(reason, [])
        if where and len(places) < EXAMPLES_KEPT:
            places.append(where)

    def merge(self, other: "Dropped") -> None:
        """Count what another reader left out too."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            self.examples[reason] = (self.examples.get(reason, []) + other.examples.get(reason, []))[:EXAMPLES_KEPT]

    def sentence(self, reason: str) -> str:
        """What was left out for this reason, as a user reads it."""
        return f"left out: {self.counts[reason]:,} {EXPLANATIONS[reason]}{self._places(reason)}"

    def report(self) -> None:
        """Log one sentence a reason: as a warning where the user may want to act."""
        for reason in EXPLANATIONS:
            if self.counts[reason]:
                logger.log(logging.INFO if reason in HARMLESS else logging.WARNING, "%s", self.sentence(reason))

    def as_dict(self) -> Mapping[str, int]:
        """Counts by reason, in alphabetical order."""
        return {reason: count for reason, count in sorted(self.counts.items()) if count}

    def _places(self, reason: str) -> str:
        places = self.examples.get(reason, [])
        return f" ({', '.join(places)}{', ...' if self.counts[reason] > len(places) else ''})" if places else ""
