"""The held-out documents: the same for everybody, about their share, never most of the text."""

import numpy as np

from bertkit.data.heldout import choose_heldout
from bertkit.data.seen import RepeatedShare, SeenHashes, contains, hash_text


def digests(number):
    return np.array([hash_text(str(i)) for i in range(number)], dtype=np.uint64)


def test_the_choice_is_the_share_and_does_not_depend_on_the_order():
    hashes, chars = digests(1000), np.full(1000, 10)
    chosen = choose_heldout(hashes, chars, share=0.02)
    assert len(chosen) == 20
    order = np.random.default_rng(0).permutation(1000)
    assert (choose_heldout(hashes[order], chars[order], share=0.02) == chosen).all()


def test_small_corpora_give_two_and_tiny_ones_none():
    assert [len(choose_heldout(digests(n), np.full(n, 10), share=0.02)) for n in (1, 3, 4, 50)] == [0, 0, 2, 2]
    assert len(choose_heldout(digests(100), np.full(100, 10), share=0)) == 0


def test_huge_documents_are_not_held_out_where_small_ones_can_be():
    hashes, chars = digests(7), np.array([170, 720, 3300, 1050, 590, 450, 800])
    chosen = choose_heldout(hashes, chars, share=0.02)
    assert sorted(chars[np.isin(hashes, chosen)]) == [170, 450]


def test_seen_hashes_are_remembered_beyond_the_recent_ones(monkeypatch):
    monkeypatch.setattr("bertkit.data.seen.RECENT_HASHES", 3)
    seen = SeenHashes()
    assert [seen.add(value) for value in (5, 1, 2**64 - 1, 1, 9, 5, 2**64 - 1)] == [1, 1, 1, 0, 1, 0, 0]
    assert contains(np.array([1, 2**63 + 5], dtype=np.uint64), 2**63 + 5)
    assert not contains(np.array([1, 2**63 + 5], dtype=np.uint64), 2**63 + 4)


def test_the_share_of_repeated_lines_stays_right_when_only_a_sample_is_kept(monkeypatch):
    monkeypatch.setattr("bertkit.data.seen.SAMPLED_HASHES", 2000)
    share = RepeatedShare()
    for number in range(20_000):
        share.add(hash_text(str(number)))
        if number % 4 == 0:
            share.add(hash_text(str(number)))
    assert abs(share.share() - 0.2) < 0.03


def test_no_document_is_looked_for_among_the_chosen_ones_when_enough_were_chosen(monkeypatch):
    monkeypatch.setattr("bertkit.data.heldout._smallest_but", None)  # must not be reached
    hashes = np.arange(200_000, dtype=np.uint64)
    assert len(choose_heldout(hashes, np.full(200_000, 10), share=0.05)) == 10_000
