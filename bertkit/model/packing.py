"""Where packed tokens stand in padded rows, and moving between the two.

Shape letters: B rows, S row length, T packed tokens, I instances, ... any further dimensions.

Packed, T tokens of I instances stand one after another; in rows, each instance has its own row of S slots and the slots
that hold no token are padding. Slot ``b * S + s`` of the flattened rows is slot s of row b.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from transformers.utils.import_utils import is_tracing

# What the caller gives and gets back: rows [B, S], packed [T], or the [1, T] of transformers' flattening collator.
Form = Literal["rows", "packed", "flattened"]

# What keeps the shapes of matrix products few on a CPU. Its libraries compile a kernel for every new shape and keep it:
# with every batch of another number of tokens, half of a bfloat16 step went into that, and a GB of memory.
INSTANCES_A_PART = 8
ROW_MULTIPLE = 16


@dataclass(frozen=True)
class Layout:
    """Where T packed tokens stand in B rows of S slots, and in which form the caller wants them back.

    slots_T: the slot of every token, or None when every slot holds one (then moving is a view).
    mask: what a query may see; bool (True: visible) or additive float; [B, 1 or N, 1 or S, S] or None.
    padding_BS: True where the caller's rows hold padding that is computed all the same (tracing only), else None.
    parts: the same tokens as layouts of a few instances each, one behind the other; none but on a CPU.
    tail: how many tokens of nothing the encoder adds behind them, to come to a number that it often sees.
    """

    num_rows: int
    row_length: int
    slots_T: Tensor | None
    mask: Tensor | None
    cu_seqlens: Tensor
    first_token_I: Tensor
    form: Form
    padding_BS: Tensor | None = None
    parts: tuple["Layout", ...] = ()
    tail: int = 0

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.num_rows * self.row_length if self.slots_T is None else self.slots_T.shape[0]

    @property
    def last_token_I(self) -> Tensor:
        """The last token of every instance, beside `first_token_I`."""
        if self.padding_BS is None:
            return (self.cu_seqlens[1:] - 1).clamp(min=0)
        behind_B = (~self.padding_BS).flip(1).int().argmax(dim=1)
        return self.cu_seqlens[1:] - 1 - behind_B

    def to_rows(self, tokens_T: Tensor, fill: float = 0.0) -> Tensor:
        """Lay packed tokens [T, ...] out as rows [B, S, ...], with `fill` in the slots that hold none."""
        if self.slots_T is None:
            return self._hide_padding(tokens_T.view(self.num_rows, self.row_length, *tokens_T.shape[1:]), fill)
        slots = tokens_T.new_full((self.num_rows * self.row_length, *tokens_T.shape[1:]), fill)
        return slots.index_copy(0, self.slots_T, tokens_T).view(self.num_rows, self.row_length, *tokens_T.shape[1:])

    def to_tokens(self, rows_BS: Tensor) -> Tensor:
        """Collect the tokens [T, ...] of rows [B, S, ...]."""
        slots = rows_BS.flatten(0, 1)
        return slots if self.slots_T is None else slots.index_select(0, self.slots_T)

    def outward(self, tokens_T: Tensor, fill: float = 0.0) -> Tensor:
        """Give packed tokens [T, ...] back in the caller's form: [B, S, ...], [T, ...] or [1, T, ...]."""
        if self.form == "rows":
            return self.to_rows(tokens_T, fill)
        return tokens_T.unsqueeze(0) if self.form == "flattened" else tokens_T

    def inward(self, given: Tensor) -> Tensor:
        """Take what the caller gave, in the caller's form, as packed tokens [T, ...]."""
        if self.form == "rows":
            # transformers allows one row of ids for all, so rows are expanded to as many as there are.
            return self.to_tokens(given.expand(self.num_rows, *given.shape[1:]))
        return given.squeeze(0) if self.form == "flattened" else given

    def positions_T(self) -> Tensor:
        """The position of every token: its slot in the caller's row, or its distance from its instance's start."""
        device = self.cu_seqlens.device
        if self.slots_T is not None:
            return self.slots_T % self.row_length
        return torch.arange(self.row_length, device=device).repeat(self.num_rows)

    def _hide_padding(self, rows_BS: Tensor, fill: float) -> Tensor:
        if self.padding_BS is None:
            return rows_BS
        trailing = (1,) * (rows_BS.dim() - 2)
        return rows_BS.masked_fill(self.padding_BS.view(*self.padding_BS.shape, *trailing), fill)


def layout_of(
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **_: object,
) -> Layout:
    """Say where the tokens of a forward's arguments lie: packed if they bring boundaries, in padded rows otherwise.

    Raises ValueError where the arguments say neither or both.
    """
    tokens = the_one_given(input_ids, inputs_embeds)
    shape = tokens.shape[: tokens.dim() - tokens.is_floating_point()]
    boundaries = cu_seqlens if cu_seqlens is not None else cu_seq_lens_q
    longest = max_seqlen if max_seqlen is not None else max_length_q
    if boundaries is None:
        if len(shape) != 2:
            raise ValueError(f"input_ids of shape {tuple(shape)} are not rows: packed ones need cu_seqlens")
        return padded_layout(shape[0], shape[1], attention_mask, device=tokens.device)
    if longest is None:
        raise ValueError("packed tokens need max_seqlen, the length of the longest instance, beside cu_seqlens")
    return packed_layout(boundaries, longest, shape[-1], form="packed" if len(shape) == 1 else "flattened")


def the_one_given(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """Take ids or embeddings, whichever was given; raises ValueError for both or neither."""
    if input_ids is not None and inputs_embeds is None:
        return input_ids
    if inputs_embeds is not None and input_ids is None:
        return inputs_embeds
    raise ValueError("give exactly one of input_ids and inputs_embeds")


def packed_layout(cu_seqlens: Tensor, max_seqlen: int, num_tokens: int, *, form: Form = "packed") -> Layout:
    """Lay T packed tokens out by the boundaries of their I instances, without waiting for the device.

    cu_seqlens: [I + 1] int32, where each instance starts and, last, T; max_seqlen: length of the longest one.
    """
    layout = _in_rows(cu_seqlens, max_seqlen, num_tokens, form=form)
    if cu_seqlens.device.type != "cpu" or is_tracing(cu_seqlens):
        return layout
    return replace(layout, parts=tuple(_parts(cu_seqlens)), tail=rounded_up(num_tokens) - num_tokens)


def rounded_up(count: int) -> int:
    """The next number of which there are few: at most a 32nd more than `count` from 256 on, else a multiple of 8."""
    multiple = max(8, 1 << max(0, count.bit_length() - 1) >> 5)
    return -(-count // multiple) * multiple


def _in_rows(cu_seqlens: Tensor, row_length: int, num_tokens: int, *, form: Form = "packed") -> Layout:
    num_instances = cu_seqlens.shape[0] - 1
    slots_T = mask = None
    if num_tokens != num_instances * row_length:
        slots_T = token_slots(cu_seqlens, row_length, num_tokens)
        mask = (torch.arange(row_length, device=cu_seqlens.device) < cu_seqlens.diff()[:, None])[:, None, None, :]
    return Layout(num_instances, row_length, slots_T, mask, cu_seqlens, cu_seqlens[:-1], form)


def _parts(cu_seqlens: Tensor) -> Iterator[Layout]:
    """Neighbours by themselves: where instances stand in order of length, little is padding, and the cache holds it."""
    bounds = cu_seqlens.tolist()
    for first in range(0, len(bounds) - 1, INSTANCES_A_PART):
        own = bounds[first : first + INSTANCES_A_PART + 1]
        longest = max(end - start for start, end in pairwise(own))
        row_length = -(-longest // ROW_MULTIPLE) * ROW_MULTIPLE
        yield _in_rows(cu_seqlens[first : first + len(own)] - own[0], row_length, own[-1] - own[0])


def padded_layout(num_rows: int, row_length: int, attention_mask: Tensor | None, *, device: torch.device) -> Layout:
    """Find the tokens among padded rows by a mask: [B, S] (1: token, 0: padding), [B, S, S], [B, 1, S, S] or None.

    Custom masks of three and four dimensions say who sees whom, not who is padding, so all B * S slots are computed. So
    are they while a graph is traced (torch.compile, torch.export), where the number of tokens must not depend on data.
    """
    if attention_mask is None or attention_mask.dim() > 2:
        return _full_layout(num_rows, row_length, custom_mask(attention_mask), device=device)
    keep_BS = attention_mask.to(device=device, dtype=torch.bool)
    if is_tracing(keep_BS) or keep_BS.is_meta:
        return _masked_layout(keep_BS)
    slots_T = keep_BS.flatten().nonzero().squeeze(1)
    if slots_T.shape[0] == num_rows * row_length:
        return _full_layout(num_rows, row_length, None, device=device)
    if slots_T.shape[0] == 0:
        raise ValueError("attention_mask hides every token: leave a 1 at each real token")
    cu_seqlens = cu_seqlens_of(keep_BS)
    # A row without tokens has no first one; any other stands in, so that shapes hold.
    first_token_I = cu_seqlens[:-1].clamp(max=slots_T.shape[0] - 1)
    return Layout(num_rows, row_length, slots_T, keep_BS[:, None, None, :], cu_seqlens, first_token_I, "rows")


def cu_seqlens_of(attention_mask_BS: Tensor) -> Tensor:
    """Where each row's tokens start once packed, and their total: [B + 1] int32."""
    lengths_B = attention_mask_BS.sum(dim=1, dtype=torch.int32)
    return torch.nn.functional.pad(lengths_B.cumsum(0, dtype=torch.int32), (1, 0))


def token_slots(cu_seqlens: Tensor, row_length: int, num_tokens: int) -> Tensor:
    """The slot [T] of every packed token when each instance starts its own row of `row_length` slots."""
    token_T = torch.arange(num_tokens, device=cu_seqlens.device)
    row_T = torch.bucketize(token_T, cu_seqlens[1:], right=True)
    return token_T + row_T * row_length - cu_seqlens[row_T]


def custom_mask(attention_mask: Tensor | None) -> Tensor | None:
    """A mask of three or four dimensions as attention takes it: bool or additive float, [B, 1 or N, S, S]."""
    if attention_mask is None:
        return None
    mask = attention_mask if attention_mask.is_floating_point() else attention_mask.bool()
    return mask[:, None] if mask.dim() == 3 else mask


def _full_layout(num_rows: int, row_length: int, mask: Tensor | None, *, device: torch.device) -> Layout:
    cu_seqlens = torch.arange(num_rows + 1, device=device, dtype=torch.int32) * row_length
    return Layout(num_rows, row_length, None, mask, cu_seqlens, cu_seqlens[:-1], "rows")


def _masked_layout(keep_BS: Tensor) -> Layout:
    num_rows, row_length = keep_BS.shape
    cu_seqlens = torch.arange(num_rows + 1, device=keep_BS.device, dtype=torch.int32) * row_length
    first_token_I = cu_seqlens[:-1] + keep_BS.int().argmax(dim=1)
    mask = keep_BS[:, None, None, :]
    return Layout(num_rows, row_length, None, mask, cu_seqlens, first_token_I, "rows", padding_BS=~keep_BS)
