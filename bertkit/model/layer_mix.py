"""Feature vectors from the layers of an encoder that is trained no more (Devlin et al. 2019, section 5.3, table 7).

Shape letters: T tokens, D hidden, K layers.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor

LayerChoice = Literal["embeddings", "last", "second-to-last", "sum-last-4", "concat-last-4", "weighted-all"]
LAYER_CHOICES: Final[tuple[LayerChoice, ...]] = get_args(LayerChoice)
_LAST: Final = 4


def mix_layers(hidden_states: Sequence[Tensor], choice: LayerChoice, *, weights_K: Tensor | None = None) -> Tensor:
    """One vector a token [T, D], or [T, 4 D] for `concat-last-4`, from the states of the embeddings and of K layers.

    hidden_states: K + 1 tensors [T, D], as `output_hidden_states` gives them. weights_K: the share of each layer in
    `weighted-all`, adding up to 1; equal shares if left out. The sum is that of the layers, not their mean.

    Raises:
        ValueError: the encoder has fewer layers than the choice takes.
    """
    embeddings_TD, *layers = hidden_states
    needed = {"second-to-last": 2, "sum-last-4": _LAST, "concat-last-4": _LAST}.get(choice, 1)
    if len(layers) < needed:
        raise ValueError(f"{choice} takes {needed} layers, and the encoder has {len(layers)}")
    if choice == "embeddings":
        return embeddings_TD
    if choice == "concat-last-4":
        return torch.cat(layers[-_LAST:], dim=-1)
    if choice == "sum-last-4":
        return torch.stack(layers[-_LAST:]).sum(0)
    if choice == "weighted-all":
        if weights_K is None:
            return torch.stack(layers).mean(0)
        return torch.einsum("k,k...->...", weights_K, torch.stack(layers))
    return layers[-1] if choice == "last" else layers[-2]


def width_of(choice: LayerChoice, hidden_size: int) -> int:
    """The length of the vectors that a choice gives."""
    return _LAST * hidden_size if choice == "concat-last-4" else hidden_size
