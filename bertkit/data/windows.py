"""Long texts in overlapping windows, and which window sees most of what is around a token (google-research/bert).

Letters: W windows, K tokens of all windows end to end, so that one in an overlap counts as often as it is seen.
"""

import numpy as np

from bertkit.data.features import Array, ranges


def cut_into_windows(num_tokens: int, *, room: int, step: int) -> Array:
    """[W, 2] start and end of windows of `room` tokens, every `step` tokens; the last reaches the end (run_squad).

    One window at least, empty where the text is. Steps are never wider than a window: every token is in one.

    Raises:
        ValueError: `room` or `step` is not positive.
    """
    step = min(_positive(room, "room"), _positive(step, "step"))
    num_windows = 1 + max(-(-(num_tokens - room) // step), 0)
    starts_W = np.arange(num_windows) * step
    return np.stack([starts_W, np.minimum(starts_W + room, num_tokens)], axis=1)


def cut_at_words(word_bounds: Array, *, room: int, step: int) -> Array:
    """[W, 2] start and end of windows of up to `room` tokens that hold whole words only.

    word_bounds: [words + 1] where each word starts and, last, where the text ends; no word longer than `room`. A window
    starts up to `step` tokens behind the one before it, one word behind it at least.

    Raises:
        ValueError: `room` or `step` is not positive, or a word is longer than `room`.
    """
    step = min(_positive(room, "room"), _positive(step, "step"))
    longest = int(np.diff(word_bounds).max(initial=0))
    if longest > room:
        raise ValueError(f"a word of {longest} tokens does not fit into windows of {room}: cut it first")
    last, first, windows = len(word_bounds) - 1, 0, []
    while True:
        start = word_bounds[first]
        behind = _words_up_to(word_bounds, start + room)
        windows.append((start, word_bounds[behind]))
        if behind == last:
            return np.array(windows, np.int64)
        first = min(max(_words_up_to(word_bounds, start + step), first + 1), behind)


def window_tokens(windows_W2: Array) -> Array:
    """[K] the number within its text of every token of every window."""
    return ranges(windows_W2[:, 0], windows_W2[:, 1])


def has_max_context(text_of: Array, windows_W2: Array) -> Array:
    """[K] whether its window is the one of its text's windows in which a token has most context.

    text_of: [W] the number of each window's text. The context of a token is that on its poorer side plus a hundredth of
    the window's length; the first window wins a tie (run_squad, `_check_is_max_context`). True once for every token.
    """
    starts_W, ends_W = windows_W2.T
    window_K, token_K = np.repeat(np.arange(len(windows_W2)), ends_W - starts_W), window_tokens(windows_W2)
    context_K = np.minimum(token_K - starts_W[window_K], ends_W[window_K] - 1 - token_K)
    # In whole numbers, a tie is a tie; the window's number decides it.
    score_K = (100 * context_K + (ends_W - starts_W)[window_K]) * len(windows_W2) - window_K
    lengths = np.zeros(text_of.max(initial=-1) + 1, np.int64)
    np.maximum.at(lengths, text_of, ends_W)
    place_K = (np.cumsum(lengths) - lengths)[text_of[window_K]] + token_K
    best = np.full(lengths.sum(), np.iinfo(np.int64).min)
    np.maximum.at(best, place_K, score_K)
    found: Array = best[place_K] == score_K
    return found


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise ValueError(f"windows need a positive {name}, and {value} is none")
    return value


def _words_up_to(word_bounds: Array, token: int) -> int:
    """How many words end at or before a token."""
    return int(np.searchsorted(word_bounds, token, side="right")) - 1
