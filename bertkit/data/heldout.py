"""Which documents are kept out of training: chosen by their content alone, so that everybody chooses the same."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

HashArray = np.ndarray[tuple[int], np.dtype[np.uint64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

# Scoring next sentences needs a second document to draw from, in training and held out.
LEAST_HELDOUT: Final = 2
LEAST_DOCUMENTS: Final = 4
# Of seven books, two may be most of the text.
MOST_TIMES_THE_SHARE: Final = 2


def choose_heldout(digests: HashArray, chars: IntArray, *, share: float) -> HashArray:
    """Sorted content hashes of the held-out documents.

    They are `share` of the documents, the first in the order of their hashes, but two at the least, and at most about
    twice that share of all `chars`: where documents are so large that this leaves fewer than two, the smallest fill up.
    Fewer than four documents give none.
    """
    if share == 0 or len(digests) < LEAST_DOCUMENTS:
        return np.empty(0, dtype=np.uint64)
    wanted = max(round(share * len(digests)), LEAST_HELDOUT)
    budget = MOST_TIMES_THE_SHARE * share * int(chars.sum())
    chosen: list[int] = []
    # Not as a list: there may be a thousand million documents, and few are looked at.
    for index in map(int, np.argsort(digests, kind="stable")):
        if len(chosen) == wanted:
            break
        if chars[index] <= budget:
            chosen.append(index)
            budget -= int(chars[index])
    if len(chosen) < LEAST_HELDOUT:
        chosen += _smallest_but(chosen, digests, chars)[: LEAST_HELDOUT - len(chosen)]
    return np.sort(digests[chosen])


def _smallest_but(chosen: Sequence[int], digests: HashArray, chars: IntArray) -> list[int]:
    taken = set(chosen)
    return [index for index in np.lexsort((digests, chars)).tolist() if index not in taken]
