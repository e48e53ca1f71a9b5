"""Masked LM: which tokens are predicted and what stands in their place (Devlin et al. 2019, section 3.1, appendix C.2).

Letters: T tokens of one instance, M masked positions, W words.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertkit.data.pairs import Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaskedTokens:
    """Corrupted ids [T], the positions to predict [M] in ascending order, and the original ids there [M]."""

    input_ids_T: Ints
    masked_positions_M: Ints
    labels_M: Ints


def mask_tokens(
    input_ids_T: Ints,
    special_T: Bools,
    *,
    vocab_size: int,
    mask_id: int,
    mlm_probability: float,
    mask_share: float,
    random_share: float,
    generator: np.random.Generator,
    word_starts_T: Bools | None = None,
) -> MaskedTokens:
    """Masks a share of the tokens [T] that are not special, whole words where word starts [T] are given.

    Exactly `round(mlm_probability x maskable tokens)` are predicted, one at the least; with whole words at most that
    many, and one word at the least. Replacements come from the whole vocabulary, ids 0 to `vocab_size` - 1.
    """
    maskable = np.flatnonzero(~special_T)
    wanted = min(len(maskable), max(1, round(mlm_probability * len(maskable))))
    if word_starts_T is None:
        positions_M = generator.permutation(maskable)[:wanted]
    else:
        positions_M = _choose_words(maskable, word_starts_T, wanted=wanted, generator=generator)
    positions_M = np.sort(positions_M)
    labels_M = input_ids_T[positions_M].astype(np.int64)

    fate_M = generator.random(len(positions_M))
    random_ids_M = generator.integers(0, vocab_size, size=len(positions_M))
    replaced_M = np.where(fate_M < mask_share + random_share, random_ids_M, labels_M)
    corrupted_T = input_ids_T.astype(np.int64)
    corrupted_T[positions_M] = np.where(fate_M < mask_share, mask_id, replaced_M)
    return MaskedTokens(corrupted_T, positions_M, labels_M)


def unmasked_tokens(input_ids_T: Ints, special_T: Bools) -> MaskedTokens:
    """The tokens [T] as they are, all that are not special [T] to be predicted (Radford et al. 2018, equation 1).

    Instances end where their room ends, so that to predict [SEP] would be to learn where they were cut.
    """
    places_M = np.flatnonzero(~special_T)
    ids_T = input_ids_T.astype(np.int64)
    return MaskedTokens(ids_T, places_M, ids_T[places_M])


def _choose_words(maskable: Ints, word_starts_T: Bools, *, wanted: int, generator: np.random.Generator) -> Ints:
    """Takes words in random order while they fit the budget, as the original's whole word masking does."""
    # The first maskable token starts a word even where a truncated segment begins inside one; so does a token behind
    # a special token, since no word crosses [SEP].
    starts = word_starts_T[maskable].copy()
    starts[:1] = True
    starts[1:] |= np.diff(maskable) > 1
    pieces_W = np.split(maskable, np.flatnonzero(starts)[1:])
    order_W = generator.permutation(len(pieces_W))
    chosen: list[Ints] = []
    room = wanted
    for word in order_W:
        if len(pieces_W[word]) <= room:
            chosen.append(pieces_W[word])
            room -= len(pieces_W[word])
        if not room:
            break
    if not chosen and len(order_W):
        chosen = [pieces_W[order_W[0]]]
    return np.concatenate(chosen) if chosen else maskable[:0]
