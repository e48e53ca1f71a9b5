"""What every forward takes beside its own arguments.

Shape letters: T packed tokens, I instances, M masked positions.
"""

from typing import TypedDict

from torch import Tensor


class BertKitKwargs(TypedDict, total=False):
    """transformers' switches, and the packed door's boundaries.

    cu_seqlens: [I + 1] int32, where each instance starts and, last, T; max_seqlen: the longest instance's length;
    masked_positions: [M] int64 into T, where a head of words predicts (everywhere without it); masked_labels: [M], the
    words there: with them it gives the summed loss `mlm_sum` and `mlm_correct`, and forms no logits.
    transformers' own names for them, `cu_seq_lens_q` and `max_length_q` (with `input_ids` [1, T]), mean the same.
    """

    output_hidden_states: bool | int | list[int] | None
    output_attentions: bool | None
    return_dict: bool | None
    cu_seqlens: Tensor | None
    max_seqlen: int | None
    masked_positions: Tensor | None
    masked_labels: Tensor | None
    cu_seq_lens_q: Tensor | None
    max_length_q: int | None
