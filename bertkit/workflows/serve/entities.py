"""From tags of words to entities in a text, for whoever marks them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertkit.tasks.scoring.chunks import lenient_chunks, read_tags

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Word:
    """A word of a text and the characters [start, end) it stands at."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """The words of a text, with blanks between them."""
    return [Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]


def entities_of(
    text: str, words: Sequence[Word], tags: Sequence[str], probabilities: Sequence[float]
) -> list[dict[str, Any]]:
    """The chunks of tags such as B-PER as conlleval finds them; the probability is the mean of their words'."""
    types: dict[str, int] = {}
    chunks = lenient_chunks(read_tags([tags], types))
    names = {number: name for name, number in types.items()}
    found = []
    for first, behind, kind in zip(chunks.start_K, chunks.end_K, chunks.type_K, strict=True):
        start, end = words[first].start, words[behind - 1].end
        mean = sum(probabilities[first:behind]) / (behind - first)
        found.append(
            {
                "label": names[int(kind)],
                "text": text[start:end],
                "start": start,
                "end": end,
                "probability": round(float(mean), 4),
            }
        )
    return found
