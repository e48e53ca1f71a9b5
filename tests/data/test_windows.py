"""Windows over long texts: they cover everything, and every token has one that sees most around it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.windows import cut_at_words, cut_into_windows, has_max_context, window_tokens

SIZES = st.integers(1, 40)


def doc_spans(num_tokens, *, room, step):
    """run_squad.py of google-research/bert, whose empty text has no window at all."""
    spans, start = [], 0
    while start < num_tokens:
        length = min(num_tokens - start, room)
        spans.append((start, start + length))
        if start + length == num_tokens:
            break
        start += min(length, step)
    return spans or [(0, 0)]


def check_is_max_context(windows, number, token):
    """run_squad.py of google-research/bert, `_check_is_max_context`."""
    best_score, best = None, None
    for index, (start, end) in enumerate(windows):
        if not start <= token < end:
            continue
        score = min(token - start, end - 1 - token) + 0.01 * (end - start)
        if best_score is None or score > best_score:
            best_score, best = score, index
    return best == number


@given(st.integers(0, 300), SIZES, st.integers(1, 60))
def test_windows_are_those_of_run_squad(num_tokens, room, step):
    found = cut_into_windows(num_tokens, room=room, step=step)
    assert [tuple(window) for window in found.tolist()] == doc_spans(num_tokens, room=room, step=step)


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(9, 30), st.integers(1, 60))
def test_windows_of_words_cover_every_word_whole_and_end(sizes, room, step):
    bounds = np.cumsum([0, *sizes])
    windows = cut_at_words(bounds, room=room, step=step)
    assert windows[0, 0] == 0
    assert windows[-1, 1] == bounds[-1]
    assert np.isin(windows, bounds).all()
    assert (windows[:, 1] - windows[:, 0] <= room).all()
    # Each begins behind the one before it and not behind that one's end.
    assert (np.diff(windows[:, 0]) > 0).all()
    assert (windows[1:, 0] <= windows[:-1, 1]).all()


def test_words_longer_than_a_window_are_refused_rather_than_tried_for_ever():
    with pytest.raises(ValueError, match="a word of 5 tokens does not fit into windows of 4"):
        cut_at_words(np.array([0, 5]), room=4, step=2)


@pytest.mark.parametrize(("room", "step", "named"), [(0, 1, "room"), (3, 0, "step"), (-2, 1, "room")])
def test_windows_without_room_or_step_are_refused(room, step, named):
    with pytest.raises(ValueError, match=f"positive {named}"):
        cut_into_windows(5, room=room, step=step)
    with pytest.raises(ValueError, match=f"positive {named}"):
        cut_at_words(np.array([0, 1]), room=room, step=step)


@given(st.lists(st.tuples(st.integers(0, 120), SIZES), max_size=4), SIZES)
def test_maximum_context_is_that_of_run_squad_and_true_once_a_token(texts, step):
    of_texts = [cut_into_windows(num_tokens, room=room, step=step) for num_tokens, room in texts]
    windows = np.concatenate([np.zeros((0, 2), np.int64), *of_texts])
    text_of = np.repeat(np.arange(len(texts)), np.array([len(of_one) for of_one in of_texts], np.int64))
    expected = [
        check_is_max_context(of_one.tolist(), number, token)
        for of_one in of_texts
        for number, (start, end) in enumerate(of_one.tolist())
        for token in range(start, end)
    ]
    assert has_max_context(text_of, windows).tolist() == expected
    assert sum(expected) == sum(num_tokens for num_tokens, _ in texts)


def test_the_context_of_seven_tokens_in_windows_of_five_by_eye():
    windows = cut_into_windows(7, room=5, step=2)
    assert windows.tolist() == [[0, 5], [2, 7]]
    assert window_tokens(windows).tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6]
    # Token 3 has one token on its poorer side in both windows: the first one wins.
    assert has_max_context(np.array([0, 0]), windows).tolist() == [
        True, True, True, True, False, False, False, True, True, True,
    ]  # fmt: skip
