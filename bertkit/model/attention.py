"""Attention over packed tokens: interchangeable backends, equal by test, behind one function.

Shape letters: B rows, S row length, T packed tokens, N heads, H head size.

A backend takes packed queries, keys and values and gives packed contexts. `eager` and `sdpa` lay the tokens out as rows
for their kernels, so padding lives here and nowhere else; a variable-length kernel is one more entry of `BACKENDS` that
reads `layout.cu_seqlens` and lays nothing out.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bertkit.model.packing import Layout

# (qkv_T3NH, layout, dropout) -> context_TNH, weights_BNSS or None
Backend = Callable[[Tensor, Layout, float], tuple[Tensor, Tensor | None]]


def attend(
    qkv_T3NH: Tensor, layout: Layout, *, implementation: str, dropout: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Let every token attend to the tokens of its own instance (Devlin et al. 2019, section 3; Vaswani et al. 2017).

    qkv_T3NH: queries, keys and values; returns contexts [T, N, H] and, from `eager`, the weights [B, N, S, S] in rows.
    """
    return BACKENDS[implementation](qkv_T3NH, layout, dropout)


def eager_attention(qkv_T3NH: Tensor, layout: Layout, dropout: float) -> tuple[Tensor, Tensor | None]:
    """Attention written out, for its weights and as the reference of the other backends."""
    context_BNSH, weights_BNSS = _written_out(*_rows(qkv_T3NH, layout), layout.mask, dropout)
    return layout.to_tokens(context_BNSH.transpose(1, 2)), weights_BNSS


def sdpa_attention(qkv_T3NH: Tensor, layout: Layout, dropout: float) -> tuple[Tensor, Tensor | None]:
    """Attention by torch's fused kernels, or written out where that is faster; returns no weights."""
    query, key, value = _rows(qkv_T3NH, layout)
    if _written_out_is_faster(query):
        context_BNSH, _ = _written_out(query, key, value, layout.mask, dropout)
    else:
        mask = layout.mask if layout.mask is None or layout.mask.dtype == torch.bool else layout.mask.to(query.dtype)
        context_BNSH = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return layout.to_tokens(context_BNSH.transpose(1, 2)), None


BACKENDS: dict[str, Backend] = {"eager": eager_attention, "sdpa": sdpa_attention}


def _rows(qkv_T3NH: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = layout.to_rows(qkv_T3NH).permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def _written_out(
    query_BNSH: Tensor, key_BNSH: Tensor, value_BNSH: Tensor, mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    scores_BNSS = (query_BNSH @ key_BNSH.transpose(-1, -2)) * query_BNSH.shape[-1] ** -0.5
    if mask is not None and mask.dtype == torch.bool:
        scores_BNSS = scores_BNSS.masked_fill(~mask, torch.finfo(scores_BNSS.dtype).min)
    elif mask is not None:
        scores_BNSS = scores_BNSS + mask.to(scores_BNSS.dtype)
    weights_BNSS = F.dropout(scores_BNSS.softmax(-1), dropout)
    return weights_BNSS @ value_BNSH, weights_BNSS


def _written_out_is_faster(query_BNSH: Tensor) -> bool:
    # Measured on x86 with 32 rows of 128, 4 heads of 64, forward and backward: in bfloat16 14 to 28 ms written out
    # against 44 to 58 ms fused; in float32 the fused kernel wins (27 ms against 41) or, with dropout, ties.
    return query_BNSH.device.type == "cpu" and query_BNSH.dtype != torch.float32
