"""The next sentence prediction law, on corpora small enough to check by eye and on 100,000 tokens and more."""

import numpy as np
import pytest

from bertkit.data.pairs import IS_NEXT, NO_LABEL, NOT_NEXT, PairIndex, draw_pairs
from bertkit.errors import CorpusError


def lengths_and_offsets(sentences_a_document, *, shortest=3, longest=60, seed=0):
    offsets = np.concatenate([[0], np.cumsum(sentences_a_document)])
    return np.random.default_rng(seed).integers(shortest, longest, size=offsets[-1]), offsets


def draw(lengths, offsets, *, seed=1, max_seq_length=128, next_sentence="nsp", short_seq_probability=0.1, share=0.5):
    return draw_pairs(
        lengths,
        offsets,
        max_seq_length=max_seq_length,
        next_sentence=next_sentence,
        random_next_probability=share,
        short_seq_probability=short_seq_probability,
        generator=np.random.default_rng(seed),
    )


def times_used(pairs: PairIndex, num_sentences: int) -> np.ndarray:
    used = np.zeros(num_sentences, dtype=int)
    for start, stop in [*zip(pairs.a_start, pairs.a_stop, strict=True), *zip(pairs.b_start, pairs.b_stop, strict=True)]:
        used[start:stop] += 1
    return used


def document_of(offsets, sentences):
    return np.searchsorted(offsets, sentences, side="right") - 1


CORPORA = {
    "books": [4000, 2500, 3000, 900],
    "many short documents": list(np.random.default_rng(3).integers(1, 12, size=3000)),
    "documents of one sentence": [1] * 501,
    "one document holds most": [5000, 300, 200],
    "two documents": [40, 40],
}


@pytest.mark.parametrize("sentences", CORPORA.values(), ids=CORPORA.keys())
@pytest.mark.parametrize("next_sentence", ["nsp", "sop", "off"])
def test_every_sentence_is_used_exactly_once_an_epoch(sentences, next_sentence):
    lengths, offsets = lengths_and_offsets(sentences)
    assert (times_used(draw(lengths, offsets, next_sentence=next_sentence), len(lengths)) == 1).all()


@pytest.mark.parametrize("sentences", CORPORA.values(), ids=CORPORA.keys())
def test_a_random_b_never_comes_from_the_document_of_a(sentences):
    lengths, offsets = lengths_and_offsets(sentences)
    pairs = draw(lengths, offsets)
    is_random = pairs.next_sentence_label == NOT_NEXT
    a, b = document_of(offsets, pairs.a_start[is_random]), document_of(offsets, pairs.b_start[is_random])
    assert (a != b).all()


def test_a_next_b_begins_where_a_ends_and_lies_in_the_same_document():
    lengths, offsets = lengths_and_offsets(CORPORA["books"])
    pairs = draw(lengths, offsets)
    is_next = pairs.next_sentence_label == IS_NEXT
    assert (pairs.a_stop[is_next] == pairs.b_start[is_next]).all()
    assert (document_of(offsets, pairs.a_start[is_next]) == document_of(offsets, pairs.b_stop[is_next] - 1)).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_share_of_random_next_sentences_is_the_one_asked_for(share):
    lengths, offsets = lengths_and_offsets(CORPORA["books"])
    assert lengths.sum() > 100_000
    labels = draw(lengths, offsets, share=share).next_sentence_label
    assert (labels == NOT_NEXT).mean() == pytest.approx(share, abs=0.001)


def test_where_one_document_holds_most_of_the_corpus_random_pairs_stay_between_documents_and_are_fewer():
    lengths, offsets = lengths_and_offsets([5000, 100])
    labels = draw(lengths, offsets).next_sentence_label
    assert 0 < (labels == NOT_NEXT).mean() < 0.1


def test_a_tenth_of_the_instances_is_short():
    lengths, offsets = lengths_and_offsets(CORPORA["books"], shortest=4, longest=6)
    tokens = np.concatenate([[0], np.cumsum(lengths)])

    def short_share(probability):
        pairs = draw(lengths, offsets, short_seq_probability=probability, share=0.0)
        size = tokens[pairs.b_stop] - tokens[pairs.a_start]
        return (size < 125 - 6).mean()

    assert short_share(0.0) < 0.02  # the ends of documents
    # A target drawn between 2 and 125 is below 119 in 19 of 20 cases; short runs also make more instances.
    assert short_share(0.1) == pytest.approx(0.1 * 117 / 124, abs=0.02)


def test_instances_fit_the_length_unless_two_sentences_are_longer_than_it():
    lengths, offsets = lengths_and_offsets(CORPORA["books"], longest=30)
    tokens = np.concatenate([[0], np.cumsum(lengths)])
    pairs = draw(lengths, offsets)
    size = tokens[pairs.a_stop] - tokens[pairs.a_start] + tokens[pairs.b_stop] - tokens[pairs.b_start]
    is_next = pairs.next_sentence_label == IS_NEXT
    assert size[is_next].max() <= 125
    # Exchanged B's are of nearly the same length, not of exactly the same.
    assert np.maximum(size - 125, 0).sum() / size.sum() < 0.002
    assert size.mean() > 95


def test_a_sentence_left_without_a_neighbour_meets_one_of_another_document_and_an_odd_one_stays_alone():
    pairs = draw(np.array([5, 5, 5]), np.array([0, 1, 2, 3]))
    assert sorted(pairs.next_sentence_label) == [NO_LABEL, NOT_NEXT]
    alone = pairs.next_sentence_label == NO_LABEL
    assert pairs.b_start[alone] == pairs.b_stop[alone]


def test_a_segment_is_cut_at_sentence_boundaries_only_and_neither_part_is_empty():
    lengths, offsets = lengths_and_offsets([50, 50])
    pairs = draw(lengths, offsets)
    labelled = pairs.next_sentence_label != NO_LABEL
    assert (pairs.a_start < pairs.a_stop)[labelled].all()
    assert (pairs.b_start < pairs.b_stop)[labelled].all()


def test_sentence_order_prediction_swaps_half_of_the_pairs_of_one_document():
    lengths, offsets = lengths_and_offsets(CORPORA["books"])
    pairs = draw(lengths, offsets, next_sentence="sop")
    swapped = pairs.next_sentence_label == NOT_NEXT
    assert swapped.mean() == pytest.approx(0.5, abs=0.03)
    assert (pairs.b_stop[swapped] == pairs.a_start[swapped]).all()


def test_the_same_seed_draws_the_same_pairs_and_another_seed_others():
    lengths, offsets = lengths_and_offsets(CORPORA["books"])
    first, again, other = draw(lengths, offsets), draw(lengths, offsets), draw(lengths, offsets, seed=2)
    assert np.array_equal(first.a_stop, again.a_stop)
    assert np.array_equal(first.b_start, again.b_start)
    assert not np.array_equal(first.b_start, other.b_start)


def test_a_corpus_of_one_document_is_an_error_that_names_the_remedies():
    with pytest.raises(CorpusError, match="needs two documents.*data.document.*pairs.next_sentence"):
        draw(*lengths_and_offsets([100]))


def test_one_document_is_enough_without_random_next_sentences():
    lengths, offsets = lengths_and_offsets([100])
    assert len(draw(lengths, offsets, next_sentence="sop")) > 0
    assert len(draw(lengths, offsets, next_sentence="off")) > 0


def test_documents_without_sentences_are_passed_over():
    pairs = draw(np.array([5, 5, 5, 5]), np.array([0, 0, 2, 2, 4]))
    assert (times_used(pairs, 4) == 1).all()
