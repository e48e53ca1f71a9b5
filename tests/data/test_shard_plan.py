"""Documents chosen and shards planned from hashes and sizes alone, as one process that sees the text would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.corpus import RawDocument
from bertkit.data.shard import cut_shards
from bertkit.data.shard_plan import DROPPED, FATES, Documents, choose_documents, plan_shards, split_parts
from bertkit.data.spill import SpillIndex

NONE = np.empty(0, np.int64)


def index_of(digests, chars=None):
    chars = np.array(chars if chars is not None else [10] * len(digests), np.int64)
    return SpillIndex(np.array(digests, np.uint64), chars, chars * 2, np.array([len(digests)], np.int64))


def fates_of(parts):
    return np.array([fate for part in parts for _, fate in part], np.uint8)


def test_the_first_copy_of_a_document_stays():
    documents = Documents.of([index_of([5, 6]), index_of([6, 7, 5]), index_of([7, 8])])
    choice = choose_documents(documents, [NONE] * 3, heldout_share=0)
    assert choice.fates.tolist() == [1, 1, 0, 1, 0, 0, 1]
    assert (choice.duplicates, choice.near_duplicates) == (3, 0)


def test_a_document_whose_first_copy_goes_as_a_near_duplicate_is_not_lost():
    documents = Documents.of([index_of([5, 6]), index_of([5, 7])])
    choice = choose_documents(documents, [np.array([0]), NONE], heldout_share=0)
    assert choice.fates.tolist() == [0, 1, 1, 1]
    assert (choice.duplicates, choice.near_duplicates) == (0, 1)


def test_held_out_documents_are_those_one_process_holds_out():
    documents = Documents.of([index_of([9, 4, 8]), index_of([], []), index_of([7, 2, 6, 4])])
    choice = choose_documents(documents, [NONE] * 3, heldout_share=0.4)
    assert choice.heldout.tolist() == [2, 4]
    assert [part.tolist() for part in split_parts(choice.fates, documents)] == [[1, 2, 1], [], [1, 2, 1, 0]]


def test_nothing_is_chosen_of_nothing():
    nothing = Documents.of([index_of([], [])])
    choice = choose_documents(nothing, [NONE], heldout_share=0.1)
    assert (choice.fates.tolist(), choice.duplicates) == ([], 0)
    assert list(plan_shards(choice.fates, nothing, shard_chars=5)) == []


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([DROPPED, *FATES.values()])))),
    st.integers(1, 60),
)
def test_planned_shards_hold_what_cut_shards_gathers(parts, shard_chars):
    all_documents = Documents.of(index_of(range(len(part)), [chars for chars, _ in part]) for part in parts)
    shards = list(plan_shards(fates_of(parts), all_documents, shard_chars=shard_chars))
    names = {fate: split for split, fate in FATES.items()}
    kept = [
        (number, row, chars, names[fate])
        for number, part in enumerate(parts)
        for row, (chars, fate) in enumerate(part)
        if fate != DROPPED
    ]
    split_of = {f"{number}/{row}": split for number, row, _, split in kept}
    documents = [RawDocument(f"{number}/{row}", "x" * chars, "line", 0) for number, row, chars, _ in kept]
    expected = {
        (work.split, work.number): [document.id for document in work.documents]
        for work in cut_shards(documents, split_of=lambda d: split_of[d.id], shard_chars=shard_chars)
    }
    planned = {
        (shard.split, shard.number): [
            f"{number}/{row}"
            for number, row, _, split in kept
            if split == shard.split and shard.first <= (number, row) <= shard.last
        ]
        for shard in shards
    }
    assert planned == expected
    sizes = {f"{number}/{row}": chars for number, row, chars, _ in kept}
    for shard in shards:
        assert shard.chars == sum(sizes[name] for name in planned[shard.split, shard.number])


def test_places_outside_are_an_error_not_a_wrong_document():
    with pytest.raises(IndexError):
        choose_documents(Documents.of([index_of([1])]), [np.array([3])], heldout_share=0)
