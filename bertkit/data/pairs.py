"""Which sentences meet in which instance: the next sentence prediction law lives here.

An epoch is a partition: every sentence is used exactly once. Documents are cut into runs of sentences that
fit one instance, each run is cut at a sentence boundary into A and B, and for the random half the B's change
places among documents. Nothing is drawn twice and nothing is thrown away, unlike the original's
`create_pretraining_data.py` (Devlin et al. 2019, appendix A.2), which repeats and drops sentences.

Letters: S sentences, D documents, R runs, I instances.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bertkit.errors import CorpusError

Ints = npt.NDArray[np.int64]
NextSentence = Literal["nsp", "sop", "off"]

IS_NEXT, NOT_NEXT, NO_LABEL = 0, 1, -100
# B's change places among the 64 (in a small corpus, the 64th part) nearest in length, so that pairs still fit.
NEIGHBOURS, LEAST_NEIGHBOURS = 64, 8


@dataclass(frozen=True)
class PairIndex:
    """One epoch's instances as spans of sentences, all of shape [I]: A is [a_start, a_stop), B is [b_start, b_stop)."""

    a_start: Ints
    a_stop: Ints
    b_start: Ints
    b_stop: Ints
    next_sentence_label: Ints

    def __len__(self) -> int:
        return len(self.a_start)


@dataclass(frozen=True)
class _Runs:
    """Runs of consecutive sentences [start, stop) of one document, all of shape [R]."""

    start: Ints
    stop: Ints
    document: Ints

    def take(self, chosen: npt.NDArray[np.bool_] | Ints) -> "_Runs":
        return _Runs(self.start[chosen], self.stop[chosen], self.document[chosen])


def special_tokens_of(next_sentence: NextSentence) -> int:
    """The special tokens of one instance: [CLS] A [SEP] B [SEP], or [CLS] A [SEP] when there is no B."""
    return 2 if next_sentence == "off" else 3


def draw_pairs(
    sentence_lengths_S: Ints,
    document_offsets: Ints,
    *,
    max_seq_length: int,
    next_sentence: NextSentence,
    random_next_probability: float,
    short_seq_probability: float,
    generator: np.random.Generator,
) -> PairIndex:
    """Draws one epoch's instances from sentence lengths [S] (tokens) and document offsets [D + 1] (sentences).

    `next_sentence_label` is 0 where B follows A and 1 where it does not; -100 marks the one sentence that may be left
    without a partner. A random B never comes from A's document (Devlin et al. 2019, section 3.1).

    Raises:
        CorpusError: next sentence prediction is asked of a corpus with one document.
    """
    if next_sentence == "nsp" and random_next_probability > 0 and len(document_offsets) < 3:
        raise CorpusError(
            "next sentence prediction needs two documents and the corpus has one: set data.document to 'blank-line' or "
            "'heading:REGEX' if it holds more, or pairs.next_sentence to 'sop' or 'off'"
        )
    runs = _cut_documents(
        sentence_lengths_S,
        document_offsets,
        max_tokens=max_seq_length - special_tokens_of(next_sentence),
        least_sentences=1 if next_sentence == "off" else 2,
        short_seq_probability=short_seq_probability,
        generator=generator,
    )
    if next_sentence == "off":
        none = np.zeros_like(runs.start)
        return PairIndex(runs.start, runs.stop, none, none, np.full_like(none, NO_LABEL))

    is_pair = runs.stop - runs.start > 1
    pairs = _cut_runs(runs.take(is_pair), generator=generator)
    singles = runs.take(~is_pair)
    if next_sentence == "sop":
        return _join(_swap_order(pairs, random_next_probability, generator=generator), _alone(singles))
    strangers = _pair_singles(singles, generator=generator)
    wanted = round(random_next_probability * (len(pairs) + len(strangers))) - len(strangers)
    exchanged = _exchange_seconds(
        pairs, runs.document[is_pair], sentence_lengths_S, wanted=max(wanted, 0), generator=generator
    )
    return _join(exchanged, strangers)


def _cut_documents(
    sentence_lengths_S: Ints,
    document_offsets: Ints,
    *,
    max_tokens: int,
    least_sentences: int,
    short_seq_probability: float,
    generator: np.random.Generator,
) -> _Runs:
    """Cuts documents into runs that fit `max_tokens`, all documents at once: one round cuts one run off each."""
    tokens_before = np.concatenate([[0], np.cumsum(sentence_lengths_S, dtype=np.int64)])
    position, end = document_offsets[:-1].copy(), document_offsets[1:]
    document = np.flatnonzero(position < end)
    rounds: list[_Runs] = []
    while len(document):
        start, limit = position[document], end[document]
        target = np.full(len(document), max_tokens)
        is_short = generator.random(len(document)) < short_seq_probability
        target[is_short] = generator.integers(2, max_tokens + 1, size=int(is_short.sum()))
        stop = np.searchsorted(tokens_before, tokens_before[start] + target, side="right") - 1
        stop = np.minimum(np.maximum(stop, start + least_sentences), limit)
        rounds.append(_Runs(start, stop, document))
        position[document] = stop
        document = document[stop < limit]
    if not rounds:
        return _Runs(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    return _Runs(*(np.concatenate([getattr(r, name) for r in rounds]) for name in ("start", "stop", "document")))


def _cut_runs(runs: _Runs, *, generator: np.random.Generator) -> PairIndex:
    # True sentence boundaries only: a cut inside a sentence would make the task trivial.
    cut = generator.integers(runs.start + 1, runs.stop)
    return PairIndex(runs.start, cut, cut, runs.stop, np.full_like(cut, IS_NEXT))


def _swap_order(pairs: PairIndex, probability: float, *, generator: np.random.Generator) -> PairIndex:
    """Sentence order prediction: the same two segments, some the other way round (Lan et al. 2020, section 3.1)."""
    swap = generator.random(len(pairs)) < probability
    return PairIndex(
        np.where(swap, pairs.b_start, pairs.a_start),
        np.where(swap, pairs.b_stop, pairs.a_stop),
        np.where(swap, pairs.a_start, pairs.b_start),
        np.where(swap, pairs.a_stop, pairs.b_stop),
        np.where(swap, NOT_NEXT, IS_NEXT),
    )


def _pair_singles(singles: _Runs, *, generator: np.random.Generator) -> PairIndex:
    """Pairs the sentences that no neighbour is left for; each is the last of its document, so no two share one."""
    order = generator.permutation(len(singles.start))
    half = len(order) // 2
    first, second = singles.take(order[:half]), singles.take(order[half : 2 * half])
    pairs = PairIndex(first.start, first.stop, second.start, second.stop, np.full(half, NOT_NEXT))
    return _join(pairs, _alone(singles.take(order[2 * half :])))


def _alone(singles: _Runs) -> PairIndex:
    none = np.zeros_like(singles.start)
    return PairIndex(singles.start, singles.stop, none, none, np.full_like(none, NO_LABEL))


def _exchange_seconds(
    pairs: PairIndex, document: Ints, sentence_lengths_S: Ints, *, wanted: int, generator: np.random.Generator
) -> PairIndex:
    """Exchanges the B's of `wanted` pairs among different documents."""
    chosen = _choose_exchangeable(document, wanted=wanted, generator=generator)
    if len(chosen) < 2:
        return pairs
    tokens_before = np.concatenate([[0], np.cumsum(sentence_lengths_S, dtype=np.int64)])
    b_tokens = tokens_before[pairs.b_stop[chosen]] - tokens_before[pairs.b_start[chosen]]
    # Sorted by length with ties in random order: neighbours in `chosen` may change places and still fit.
    chosen = chosen[np.lexsort((generator.random(len(chosen)), b_tokens))]
    source = chosen[_derange(document[chosen], generator=generator)]
    b_start, b_stop = pairs.b_start.copy(), pairs.b_stop.copy()
    label = pairs.next_sentence_label.copy()
    b_start[chosen], b_stop[chosen], label[chosen] = pairs.b_start[source], pairs.b_stop[source], NOT_NEXT
    return replace(pairs, b_start=b_start, b_stop=b_stop, next_sentence_label=label)


def _choose_exchangeable(document: Ints, *, wanted: int, generator: np.random.Generator) -> Ints:
    """Chooses `wanted` pairs of which no document holds more than half; fewer where one document holds nearly all."""
    order = generator.permutation(len(document))
    chosen, rest = order[:wanted], order[wanted:]
    largest, count = _largest_document(document[chosen])
    if count * 2 > len(chosen):
        own = chosen[document[chosen] == largest]
        others = np.concatenate([chosen[document[chosen] != largest], rest[document[rest] != largest]])
        num_own = min(wanted // 2, len(others))
        chosen = np.concatenate([own[:num_own], others[: wanted - num_own]])
    # With two documents and an odd number, the smaller one now holds one too many.
    largest, count = _largest_document(document[chosen])
    excess = max(0, 2 * count - len(chosen))
    return np.delete(chosen, np.flatnonzero(document[chosen] == largest)[:excess])


def _largest_document(document: Ints) -> tuple[int, int]:
    """The document mentioned most often, and how often."""
    counts = np.bincount(document, minlength=1)
    largest = int(counts.argmax())
    return largest, int(counts[largest])


def _derange(document: Ints, *, generator: np.random.Generator) -> Ints:
    """A random permutation of places near each other in which no place receives from its own document.

    `document` [R] holds no document more than R / 2 times, which makes a repair by exchanging two always possible:
    if place i conflicts over document X, at most R - 1 places give or receive X.
    """
    num = len(document)
    # Shuffling within windows at random offsets keeps every B near its own length.
    jitter = np.arange(num) + generator.random(num) * _neighbours(num)
    source = np.argsort(jitter, kind="stable")
    for _ in range(64):
        conflict = np.flatnonzero(document[source] == document)
        if not len(conflict):
            return source
        source = _exchange_conflicts(source, document, conflict, generator=generator)
    for place in np.flatnonzero(document[source] == document):
        if document[source[place]] != document[place]:
            continue  # mended as the partner of an earlier place
        fits = np.flatnonzero((document != document[place]) & (document[source] != document[place]))
        other = fits[np.abs(fits - place).argmin()]
        source[[place, other]] = source[[other, place]]
    return source


def _neighbours(num: int) -> int:
    return max(LEAST_NEIGHBOURS, min(NEIGHBOURS, num // NEIGHBOURS))


def _exchange_conflicts(source: Ints, document: Ints, conflict: Ints, *, generator: np.random.Generator) -> Ints:
    """Offers every conflicting place one random partner nearby and exchanges where both are then free of conflict."""
    num = len(source)
    offset = generator.integers(1, min(_neighbours(num), num - 1) + 1, size=len(conflict))
    partner = (conflict + offset * generator.choice([-1, 1], size=len(conflict))) % num
    helps = (document[source[partner]] != document[conflict]) & (document[source[conflict]] != document[partner])
    place, partner = conflict[helps], partner[helps]
    # A place may take part in one exchange a round: keep the first mention of each.
    mentioned = np.stack([place, partner], axis=1).ravel()
    is_first = np.zeros(len(mentioned), dtype=bool)
    is_first[np.unique(mentioned, return_index=True)[1]] = True
    free = is_first.reshape(-1, 2).all(axis=1)
    place, partner = place[free], partner[free]
    source = source.copy()
    source[place], source[partner] = source[partner], source[place]
    return source


def _join(first: PairIndex, second: PairIndex) -> PairIndex:
    names = ("a_start", "a_stop", "b_start", "b_stop", "next_sentence_label")
    return PairIndex(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))
