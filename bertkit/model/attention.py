"""Attention over packed tokens: interchangeable backends, equal by test, behind one function.

Shape letters: B rows, S row length, T packed tokens, N heads, H head size.

A backend takes packed queries, keys and values and gives packed contexts. `eager` and `sdpa` lay the tokens out as rows
for their kernels, so padding lives here and nowhere else; on a GPU without dropout `sdpa` hands over to torch's kernel
for sequences of any length, which reads `layout.cu_seqlens` and lays nothing out.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import dropout as drop
from .packing import Layout, packed_layout

logger = logging.getLogger(__name__)

# (qkv_T3NH, layout, dropout, causal) -> context_TNH, weights_BNSS or None
Backend = Callable[[Tensor, Layout, float, bool], tuple[Tensor, Tensor | None]]


def attend(
    qkv_T3NH: Tensor, layout: Layout, *, implementation: str, dropout: float = 0.0, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Let every token attend to the tokens of its own instance (Devlin et al. 2019, section 3; Vaswani et al. 2017).

    qkv_T3NH: queries, keys and values, of more tokens than `layout` has if the last ones stand for nothing; causal: a
    token sees itself and those before it only. Returns contexts [T, N, H] and, from `eager`, the weights [B, N, S, S]
    in rows.
    """
    return BACKENDS[implementation](qkv_T3NH, layout, dropout, causal)


def eager_attention(
    qkv_T3NH: Tensor, layout: Layout, dropout: float, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Attention written out, for its weights and as the reference of the other backends."""
    rows = _rows(qkv_T3NH[: layout.num_tokens], layout)
    context_BNSH, weights_BNSS = _written_out(*rows, _visible(layout, causal, qkv_T3NH.device), dropout)
    context_TNH = layout.to_tokens(context_BNSH.transpose(1, 2))
    return F.pad(context_TNH, (0, 0, 0, 0, 0, qkv_T3NH.shape[0] - layout.num_tokens)), weights_BNSS


def sdpa_attention(
    qkv_T3NH: Tensor, layout: Layout, dropout: float, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Attention by torch's fused kernels, or written out where that is faster; returns no weights."""
    if _varlen_takes(qkv_T3NH, layout, dropout, causal):
        return varlen_attention(qkv_T3NH, layout, causal=causal), None
    if layout.parts:
        sizes = [part.num_tokens for part in layout.parts]
        *tokens, rest = qkv_T3NH.split([*sizes, qkv_T3NH.shape[0] - layout.num_tokens])
        parts = zip(tokens, layout.parts, strict=True)
        contexts = [sdpa_attention(qkv, part, dropout, causal)[0] for qkv, part in parts]
        return torch.cat([*contexts, torch.zeros_like(rest[:, 0])]), None
    query, key, value = _rows(qkv_T3NH, layout)
    mask = _visible(layout, causal, query.device)
    if _written_out_is_faster(query, dropout):
        context_BNSH, _ = _written_out(query, key, value, mask, dropout)
    else:
        context_BNSH = _fused(query, key, value, mask, dropout, causal=causal and _hides_nothing_else(layout))
    return layout.to_tokens(context_BNSH.transpose(1, 2)), None


def varlen_attention(qkv_T3NH: Tensor, layout: Layout, *, causal: bool = False) -> Tensor:
    """Attention by torch's kernel for sequences of any length: 16 bits, CUDA, no dropout; contexts [T, N, H]."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv_T3NH.unbind(1)
    bounds, longest = layout.cu_seqlens, layout.row_length
    # The window came to torch later than the kernel, which without it sees both sides.
    left_only: dict[str, Any] = {"window_size": (-1, 0)} if causal else {}
    context_TNH: Tensor = varlen_attn(query, key, value, bounds, bounds, longest, longest, **left_only)  # type: ignore[assignment]
    return context_TNH


BACKENDS: dict[str, Backend] = {"eager": eager_attention, "sdpa": sdpa_attention}


def _rows(qkv_T3NH: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = layout.to_rows(qkv_T3NH).permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def _visible(layout: Layout, causal: bool, device: torch.device) -> Tensor | None:
    """What each query may see: `layout.mask`, and where attention is causal, of that only what is not behind it."""
    if not causal:
        return layout.mask
    earlier_SS = torch.ones(layout.row_length, layout.row_length, dtype=torch.bool, device=device).tril()
    if layout.mask is None or _hides_nothing_else(layout):
        return earlier_SS
    if layout.mask.dtype != torch.bool:
        return layout.mask.masked_fill(~earlier_SS, torch.finfo(layout.mask.dtype).min)
    # Padding in front sees itself, or its weights would be no numbers and its gradients neither.
    return (layout.mask & earlier_SS) | torch.eye(layout.row_length, dtype=torch.bool, device=device)


def _hides_nothing_else(layout: Layout) -> bool:
    """Whether causal attention needs no mask beside: rows of packed tokens have their padding where no token looks."""
    return layout.mask is None or layout.form != "rows"


def _fused(
    query_BNSH: Tensor, key_BNSH: Tensor, value_BNSH: Tensor, mask: Tensor | None, dropout: float, *, causal: bool
) -> Tensor:
    if causal:
        # Told so instead of by a mask, a kernel leaves out half of its work.
        return F.scaled_dot_product_attention(query_BNSH, key_BNSH, value_BNSH, dropout_p=dropout, is_causal=True)
    mask = mask if mask is None or mask.dtype == torch.bool else mask.to(query_BNSH.dtype)
    return F.scaled_dot_product_attention(query_BNSH, key_BNSH, value_BNSH, attn_mask=mask, dropout_p=dropout)


def _written_out(
    query_BNSH: Tensor, key_BNSH: Tensor, value_BNSH: Tensor, mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    scores_BNSS = (query_BNSH * query_BNSH.shape[-1] ** -0.5) @ key_BNSH.transpose(-1, -2)
    if mask is not None and mask.dtype == torch.bool:
        scores_BNSS = scores_BNSS.masked_fill(~mask, torch.finfo(scores_BNSS.dtype).min)
    elif mask is not None:
        scores_BNSS = scores_BNSS + mask.to(scores_BNSS.dtype)
    weights_BNSS = drop(scores_BNSS.softmax(-1), dropout)
    return weights_BNSS @ value_BNSH, weights_BNSS


def _written_out_is_faster(query_BNSH: Tensor, dropout: float) -> bool:
    # Measured on x86 with 32 rows of 128, 4 heads of 64, forward and backward: in bfloat16 14 to 28 ms written out
    # against 44 to 58 ms fused; in float32 the fused kernel wins (27 ms against 41), but it has none with dropout.
    return query_BNSH.device.type == "cpu" and (query_BNSH.dtype != torch.float32 or dropout > 0)


def _varlen_takes(qkv_T3NH: Tensor, layout: Layout, dropout: float, causal: bool = False) -> bool:
    # A mask without slots is the caller's own, which that kernel cannot take.
    takes = qkv_T3NH.device.type == "cuda" and dropout == 0 and (layout.mask is None or layout.slots_T is not None)
    return takes and _varlen_works(qkv_T3NH.device, qkv_T3NH.dtype, qkv_T3NH.shape[-1], causal)


@lru_cache
def _varlen_works(device: torch.device, dtype: torch.dtype, head_size: int, causal: bool = False) -> bool:
    """Whether the kernel gives on `device` what attention written out gives; not every GPU and build has it."""
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    bounds = torch.tensor([0, 3, 8], dtype=torch.int32, device=device)
    values = torch.linspace(-1, 1, 8 * 3 * 2 * head_size, device=device).sin().view(8, 3, 2, head_size).to(dtype)
    layout = packed_layout(bounds, 5, 8)
    try:
        with torch.no_grad():
            found = varlen_attention(values, layout, causal=causal)
            expected, _ = eager_attention(values, layout, 0.0, causal)
            works = torch.allclose(found, expected, rtol=0.05, atol=0.05)
    except (ImportError, RuntimeError, TypeError) as error:
        logger.info("attention lays its tokens out in rows: %s", error)
        return False
    if not works:
        logger.warning("torch's attention for sequences of any length gives wrong results on %s: not used", device)
    return works
