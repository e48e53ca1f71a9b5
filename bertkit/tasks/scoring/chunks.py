"""From tags to chunks: sentences laid end to end, an O after each, and rules that compare a tag with the one before.

Shape letters: T tags of all sentences with their closing O, K chunks.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from bertkit.errors import TaskError
from bertkit.tasks.scoring.checks import check_names

Scheme: TypeAlias = Literal["IOB1", "IOB2", "IOBES", "BILOU"]
SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)

_LETTERS: Final = {"IOB1": "IOB", "IOB2": "IOB", "IOBES": "IOBESM", "BILOU": "BILOU"}
_TAG: Final = re.compile(r"([BIESLUM])(?:-(.*))?", re.DOTALL)
_O, _B, _I, _E, _S = range(5)
# BILOU and BMES are IOBES in other letters.
_POSITIONS: Final = {"B": _B, "I": _I, "M": _I, "E": _E, "L": _E, "S": _S, "U": _S}


@dataclass(frozen=True)
class Tags:
    """Tags as integers: the position in a chunk (O, B, I, E or S) and the type, -1 outside."""

    position_T: NDArray[np.int64]
    type_T: NDArray[np.int64]

    @property
    def before_T(self) -> NDArray[np.int64]:
        """The position of the tag before; outside, before the first."""
        return np.concatenate(([_O], self.position_T[:-1]))

    @property
    def same_type_T(self) -> NDArray[np.bool_]:
        """Whether the tag before has the same type."""
        return np.concatenate(([False], self.type_T[1:] == self.type_T[:-1]))


@dataclass(frozen=True)
class Chunks:
    """Chunks in order: the first tag, the tag after the last, the type."""

    start_K: NDArray[np.int64]
    end_K: NDArray[np.int64]
    type_K: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Chunks":
        """Some of the chunks."""
        return Chunks(self.start_K[chosen], self.end_K[chosen], self.type_K[chosen])


def has_chunk_tags(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether these are the tags of chunks (`B-PER`, `I`, `O`) and not, say, parts of speech."""
    tags = {tag for sentence in sentences for tag in sentence}
    return any("-" in tag and _TAG.fullmatch(tag) for tag in tags) or all(
        tag == "O" or _TAG.fullmatch(tag) for tag in tags
    )


def read_tags(sentences: Sequence[Sequence[str]], types: dict[str, int]) -> Tags:
    """Tags as integers; types not seen before are added to `types`. A tag without a type has type `_`, as in seqeval.

    Raises:
        TaskError: a tag that is neither O nor a letter of BIESLU with a type.
    """
    flat = list(chain.from_iterable(chain(sentence, ("O",)) for sentence in sentences))
    distinct = list(dict.fromkeys(flat))
    codes = {tag: code for code, tag in enumerate(distinct)}
    code_T = np.fromiter((codes[tag] for tag in flat), np.int64, len(flat))
    pairs = np.array([_parse(tag, types) for tag in distinct], dtype=np.int64)
    return Tags(pairs[code_T, 0], pairs[code_T, 1])


def detect_scheme(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]] = ()) -> Scheme:
    """The scheme the tags are written in: by their letters, then by where the references' B and I stand.

    Raises:
        TaskError: letters of IOBES and of BILOU side by side, or a tag that is not a chunk's.
    """
    letters = {tag[0] for tag in _distinct(references, predictions) if tag}
    if letters & {"E", "S"} and letters & {"L", "U"}:
        raise TaskError("tags mix the letters of IOBES (E, S) and of BILOU (L, U): write them in one scheme")
    if letters & {"E", "S"}:
        return "IOBES"
    if letters & {"L", "U"}:
        return "BILOU"
    tags = read_tags(references, {})
    follows_T = np.isin(tags.before_T, (_B, _I)) & tags.same_type_T
    starts_with_I = bool(((tags.position_T == _I) & ~follows_T).any())
    starts_with_B = bool(((tags.position_T == _B) & ~follows_T).any())
    return "IOB1" if starts_with_I and not starts_with_B else "IOB2"


def check_scheme(scheme: Scheme, sentences: Iterable[Sequence[str]]) -> None:
    """Every tag is written in letters of the scheme.

    Raises:
        TaskError: names the first tag that is not.
    """
    for tag in _distinct(sentences):
        if tag[:1] not in _LETTERS[scheme]:
            raise TaskError(f"tag '{tag}' is not written in {scheme}: its letters are {', '.join(_LETTERS[scheme])}")


def lenient_chunks(tags: Tags) -> Chunks:
    """Chunks as conlleval.pl finds them: B starts one, and so does any tag after O or after another type.

    conlleval.pl has no rule for S and merges E-X B-X; here S stands alone and E is a last tag, as in seqeval's default.
    """
    outside_T = tags.position_T == _O
    fresh_T = np.isin(tags.position_T, (_B, _S)) | np.isin(tags.before_T, (_O, _E, _S)) | ~tags.same_type_T
    start_T = ~outside_T & fresh_T
    return _cut(tags, start_T, ends=start_T | outside_T)


def strict_chunks(tags: Tags, scheme: Scheme) -> Chunks:
    """Chunks written as the scheme demands, all others dropped (seqeval's `mode="strict"`)."""
    position_T, before_T, same_T = tags.position_T, tags.before_T, tags.same_type_T
    inside_T = same_T & np.isin(before_T, (_B, _I)) & np.isin(position_T, (_I, _E))
    if scheme == "IOB1":
        begins_T = _iob1_starts(tags)
        closed_T = ~((before_T == _B) & (position_T == _B) & ~same_T)
    else:
        begins_T = np.isin(position_T, (_B, _S))
        closed_T = np.isin(before_T, (_E, _S)) | np.full_like(same_T, scheme == "IOB2")
    # A tag goes on with a chunk only where that chunk was begun lawfully, however far back.
    index_T = np.arange(len(position_T))
    run_start_T = np.maximum.accumulate(np.where(inside_T, 0, index_T))
    chunked_T = np.maximum.accumulate(np.where(begins_T, index_T, -1)) >= run_start_T
    goes_on_T = inside_T & np.concatenate(([False], chunked_T[:-1]))
    chunks = _cut(tags, begins_T & ~goes_on_T, ends=~inside_T)
    return chunks.take(closed_T[chunks.end_K])


def matching(left: Chunks, right: Chunks) -> Chunks:
    """The chunks with the same start, end and type in both."""
    _, in_left, in_right = np.intersect1d(left.start_K, right.start_K, assume_unique=True, return_indices=True)
    ours, theirs = left.take(in_left), right.take(in_right)
    return ours.take((ours.end_K == theirs.end_K) & (ours.type_K == theirs.type_K))


def _parse(tag: str, types: dict[str, int]) -> tuple[int, int]:
    if tag == "O":
        return _O, -1
    match = _TAG.fullmatch(tag)
    if match is None:
        raise TaskError(f"tag '{tag}' is not a chunk's: write O, or B-, I-, E-, S-, L-, U- and a type")
    return _POSITIONS[match[1]], types.setdefault(match[2] or "_", len(types))


def _distinct(*sides: Iterable[Sequence[str]]) -> list[str]:
    tags = list(dict.fromkeys(tag for sentences in sides for sentence in sentences for tag in sentence))
    check_names(tags, "tags")
    return tags


def _iob1_starts(tags: Tags) -> NDArray[np.bool_]:
    position_T, before_T, same_T = tags.position_T, tags.before_T, tags.same_type_T
    # seqeval's table: B only parts two neighbours of one type, I starts anything else, even after a B without right.
    start_T: NDArray[np.bool_] = np.where(position_T == _I, (before_T != _I) | ~same_T, (position_T == _B) & same_T)
    return start_T


def _cut(tags: Tags, start_T: NDArray[np.bool_], *, ends: NDArray[np.bool_]) -> Chunks:
    start_K, stops = np.flatnonzero(start_T), np.flatnonzero(ends)
    # Every sentence is closed by an O, so every start has a stop after it.
    return Chunks(start_K, stops[np.searchsorted(stops, start_K, side="right")], tags.type_T[start_K])
