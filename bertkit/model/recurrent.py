"""An LSTM over packed tokens.

Shape letters: T packed tokens, B rows (instances), S steps, R places (a step of a row), D what goes in, W what comes
out.

It goes step by step, so tokens are laid out by steps: first the first tokens of all rows, then the second ones. Rows
are read from their own first token (or last, `reverse`), so padding is at the end of a row, where no token's state has
seen it. On a CPU the rows stand in order of length and a step leaves out those that are over, as in torch's
`PackedSequence`, whose own kernel takes six times as long there: it cuts up the whole batch at every step. On a GPU a
step has all rows, so that nothing waits for the device to say how long they are.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.import_utils import is_tracing

from .packing import INSTANCES_A_PART, ROW_MULTIPLE, Layout


@dataclass(frozen=True)
class _Steps:
    """Where tokens stand when they are laid out by steps.

    place_T: the place of every token; runs: how many steps follow one another, and of how many rows each.
    """

    place_T: Tensor
    runs: tuple[tuple[int, int], ...]


def run_lstm(lstm: nn.LSTM, tokens_TD: Tensor, layout: Layout, *, reverse: bool = False) -> Tensor:
    """Run an LSTM of one direction over every instance alone, from a zero state; returns its outputs [T, W].

    reverse: from an instance's last token to its first. The result is that of `nn.LSTM` on each instance, to rounding.

    Raises:
        ValueError: the LSTM has two directions; run one for each.
    """
    if lstm.bidirectional:
        raise ValueError("run_lstm runs one direction: build an nn.LSTM for each, without bidirectional")
    steps = _steps_of(layout, reverse=reverse)
    num_places = sum(length * rows for length, rows in steps.runs)
    places_RD = tokens_TD.new_zeros(num_places, tokens_TD.shape[1]).index_copy(0, steps.place_T, tokens_TD)
    # A traced graph holds no filters of warnings.
    with nullcontext() if is_tracing(tokens_TD) else _without_advice():
        outputs_RW = torch.cat(list(_run_by_run(lstm, places_RD, steps.runs)))
    return outputs_RW.index_select(0, steps.place_T)


def reset_lstm(lstm: nn.LSTM) -> None:
    """Let a new LSTM begin by keeping what it has: forget gates open (Jozefowicz et al. 2015, as in ELMo's cells)."""
    for name, bias in lstm.named_parameters():
        # transformers marks what it has loaded, and a slice of it has no mark.
        if name.startswith("bias_ih") and not getattr(bias, "_is_hf_initialized", False):
            init.ones_(bias[lstm.hidden_size : 2 * lstm.hidden_size])


def _run_by_run(lstm: nn.LSTM, places_RD: Tensor, runs: tuple[tuple[int, int], ...]) -> Iterator[Tensor]:
    state = None
    for run_RD, (length, rows) in zip(places_RD.split([length * rows for length, rows in runs]), runs, strict=True):
        if state is not None:
            # The longest rows come first: those that are over are left behind.
            state = tuple(part[:, :rows].contiguous() for part in state)
        outputs_SBW, state = lstm(run_RD.view(length, rows, -1), state)
        yield outputs_SBW.flatten(0, 1)


def _steps_of(layout: Layout, *, reverse: bool) -> _Steps:
    device, num_rows = layout.cu_seqlens.device, layout.num_rows
    row_T = torch.bucketize(torch.arange(layout.num_tokens, device=device), layout.cu_seqlens[1:], right=True)
    step_T = _step_T(layout, row_T, reverse=reverse)
    if device.type != "cpu" or is_tracing(layout.cu_seqlens):
        return _Steps(step_T * num_rows + row_T, ((layout.row_length, num_rows),))
    lengths_B, order_B = layout.cu_seqlens.diff().sort(descending=True, stable=True)
    runs = tuple(_runs(lengths_B.tolist()))
    rows_S = torch.cat([torch.full((length,), rows) for length, rows in runs])
    return _Steps((rows_S.cumsum(0) - rows_S)[step_T] + order_B.argsort()[row_T], runs)


def _step_T(layout: Layout, row_T: Tensor, *, reverse: bool) -> Tensor:
    """How many tokens of its instance are read before each token."""
    if layout.padding_BS is None:
        ends = layout.cu_seqlens[1:][row_T] - 1
        token_T = torch.arange(len(row_T), device=row_T.device)
        return ends - token_T if reverse else token_T - layout.cu_seqlens[row_T]
    # While a graph is traced, padding is among the tokens: it comes after the real ones, in either direction.
    padding_BS = layout.padding_BS
    from_left_BS = padding_BS.flip(1) if reverse else padding_BS
    first_BS = (~from_left_BS).long().cumsum(1) - 1
    behind_BS = (~padding_BS).sum(1, keepdim=True) + from_left_BS.long().cumsum(1) - 1
    step_BS = behind_BS.where(from_left_BS, first_BS)
    return (step_BS.flip(1) if reverse else step_BS).flatten()


def _runs(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """How many steps follow one another, and of how many rows, for lengths in falling order.

    Both are multiples, so shapes are few (`packing` says why), and a row is at most 15 steps longer than its tokens.
    """

    def rows_from(step: int) -> int:
        going_on = sum(length > step for length in lengths)
        return min(len(lengths), -(-going_on // INSTANCES_A_PART) * INSTANCES_A_PART)

    for rows, starts in groupby(range(0, lengths[0], ROW_MULTIPLE), key=rows_from):
        first, *others = starts
        yield min(len((first, *others)) * ROW_MULTIPLE, lengths[0] - first), rows


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep torch's remark to itself that a projected LSTM on a CPU is not oneDNN's, which no user can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
        yield
