"""The masked LM law (Devlin et al. 2019, appendix A.1)."""

import numpy as np
import pytest

from bertkit.data.masking import mask_tokens

VOCABULARY, MASK = 1000, 4


def mask(ids, special, *, seed=0, word_starts=None, probability=0.15, mask_share=0.8, random_share=0.1):
    return mask_tokens(
        np.asarray(ids),
        np.asarray(special),
        vocab_size=VOCABULARY,
        mask_id=MASK,
        mlm_probability=probability,
        mask_share=mask_share,
        random_share=random_share,
        generator=np.random.default_rng(seed),
        word_starts_T=word_starts,
    )


def instances(num=1000, *, seed=0):
    """Instances of 5 to 128 tokens, [CLS] A [SEP] B [SEP], some short; over 60,000 tokens a thousand."""
    generator = np.random.default_rng(seed)
    for _ in range(num):
        length = int(generator.integers(5, 129))
        ids = generator.integers(5, VOCABULARY, size=length)
        special = np.zeros(length, dtype=bool)
        special[[0, length // 2, length - 1]] = True
        ids[special] = [2, 3, 3]
        yield ids, special


def test_fifteen_percent_are_predicted_and_80_10_10_stand_in_their_place_over_100_000_tokens():
    fates = {"mask": 0, "kept": 0, "random": 0}
    maskable = predicted = 0
    replacements = []
    for number, (ids, special) in enumerate(instances(2000)):
        masked = mask(ids, special, seed=number)
        maskable += int((~special).sum())
        predicted += len(masked.masked_positions_M)
        now = masked.input_ids_T[masked.masked_positions_M]
        is_mask, is_kept = now == MASK, now == masked.labels_M
        fates["mask"] += int(is_mask.sum())
        fates["kept"] += int((is_kept & ~is_mask).sum())
        fates["random"] += int((~is_kept & ~is_mask).sum())
        replacements.append(now[~is_kept & ~is_mask])
    assert maskable > 100_000
    assert predicted / maskable == pytest.approx(0.15, abs=0.002)
    assert fates["mask"] / predicted == pytest.approx(0.8, abs=0.01)
    assert fates["kept"] / predicted == pytest.approx(0.1, abs=0.01)
    assert fates["random"] / predicted == pytest.approx(0.1, abs=0.01)
    drawn = np.concatenate(replacements)
    assert drawn.min() < 10  # the whole vocabulary, from its first ids
    assert drawn.max() > VOCABULARY - 10  # to its last
    assert np.histogram(drawn, bins=10, range=(0, VOCABULARY))[0].min() > 0.07 * len(drawn)


def test_special_tokens_are_never_masked_and_never_changed():
    for number, (ids, special) in enumerate(instances(300)):
        masked = mask(ids, special, seed=number, probability=0.9)
        assert not special[masked.masked_positions_M].any()
        assert (masked.input_ids_T[special] == ids[special]).all()


def test_labels_are_the_original_ids_and_every_other_token_stays():
    ids, special = next(instances(1))
    before = ids.copy()
    masked = mask(ids, special)
    assert (masked.labels_M == before[masked.masked_positions_M]).all()
    untouched = np.setdiff1d(np.arange(len(ids)), masked.masked_positions_M)
    assert (masked.input_ids_T[untouched] == before[untouched]).all()
    assert (ids == before).all()


def test_positions_come_in_ascending_order_without_repeats():
    ids, special = next(instances(1))
    positions = mask(ids, special, probability=0.5).masked_positions_M
    assert (np.diff(positions) > 0).all()


def test_one_token_is_predicted_at_least():
    assert len(mask([2, 7, 3], [True, False, True]).masked_positions_M) == 1


def test_an_instance_of_special_tokens_alone_predicts_nothing():
    assert len(mask([2, 3], [True, True]).masked_positions_M) == 0
    starts = np.array([True, True])
    assert len(mask([2, 3], [True, True], word_starts=starts).masked_positions_M) == 0


def test_whole_words_are_masked_together():
    #       [CLS] un  ##believ ##able  cat  [SEP]  sat  ##down [SEP]
    special = np.array([True, False, False, False, False, True, False, False, True])
    starts = np.array([True, True, False, False, True, True, True, False, True])
    words = [{1, 2, 3}, {4}, {6, 7}]
    seen = set()
    for seed in range(50):
        positions = set(mask(range(10, 19), special, seed=seed, word_starts=starts, probability=0.5).masked_positions_M)
        assert all(word <= positions or not word & positions for word in words)
        assert len(positions) <= 3
        seen.add(frozenset(int(p) for p in positions))
    assert frozenset({1, 2, 3}) in seen


def test_a_word_does_not_reach_across_a_special_token():
    # Truncation may leave B beginning inside a word: it must not be joined to the last word of A.
    special = np.array([True, False, True, False, True])
    starts = np.array([True, True, True, False, True])
    sizes = {
        len(mask(range(10, 15), special, seed=s, word_starts=starts, probability=0.3).masked_positions_M)
        for s in range(20)
    }
    assert sizes == {1}


def test_where_every_word_is_longer_than_the_budget_one_word_is_masked():
    special = np.zeros(6, dtype=bool)
    starts = np.array([True, False, False, True, False, False])
    assert len(mask(range(10, 16), special, word_starts=starts).masked_positions_M) == 3


def test_the_same_generator_masks_the_same_tokens():
    ids, special = next(instances(1))
    first, again, other = mask(ids, special), mask(ids, special), mask(ids, special, seed=1)
    assert np.array_equal(first.input_ids_T, again.input_ids_T)
    assert not np.array_equal(first.masked_positions_M, other.masked_positions_M)
