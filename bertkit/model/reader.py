"""A BiLSTM that reads an encoder's layers: what may stand between encoder and classifier (section 5.3, tables 5 and 7).

Shape letters: T packed tokens, I instances, D hidden, K layers, W what a classifier reads.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from .dropout import Dropout
from .layer_mix import LAYER_CHOICES, LayerChoice, mix_layers, width_of
from .packing import Layout
from .recurrent import run_lstm

# The paper's: "a randomly initialized two-layer 768-dimensional BiLSTM".
_DEFAULTS = {"layers": "weighted-all", "num_layers": 2, "size": 768, "dropout": 0.0}


class BiLSTMReader(nn.Module):
    """One vector a token from the layers of an encoder, read by LSTMs from both sides, as `config.bilstm` says.

    layers: a choice of `mix_layers`, of which `weighted-all` has learned weights (`LayerMix`). num_layers: BiLSTMs, one
    above the other, each reading both directions of the one below. size: units of a direction. dropout: between them.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        settings = reader_settings(config.bilstm)
        num_layers, size = settings["num_layers"], settings["size"]
        self.mix = LayerMix(settings["layers"], config.num_hidden_layers)
        self.width = 2 * size
        widths = [width_of(settings["layers"], config.hidden_size), *[self.width] * (num_layers - 1)]
        self.forwards = nn.ModuleList([nn.LSTM(width, size) for width in widths])
        self.backwards = nn.ModuleList([nn.LSTM(width, size) for width in widths])
        self.dropout = Dropout(settings["dropout"])

    def forward(self, states: Sequence[Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
        """Read the K + 1 states [T, D] of the embeddings and the layers; returns [T, W] and, of instances, [I, W].

        An instance's vector is the forward direction's at its last token and the backward direction's at its first.
        """
        read_TW = self.mix(states)
        for index, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            read_TW = read_TW if index == 0 else self.dropout(read_TW)
            directions = (
                run_lstm(cast("nn.LSTM", forwards), read_TW, layout),
                run_lstm(cast("nn.LSTM", backwards), read_TW, layout, reverse=True),
            )
            read_TW = torch.cat(directions, dim=-1)
        return read_TW, both_ends(*directions, layout)


class LayerMix(nn.Module):
    """The layers that a choice of `mix_layers` takes; `weighted-all` learns how much of each.

    Its weights are a softmax, its sum is scaled by one number more (Peters et al. 2018, equation 1).
    """

    def __init__(self, choice: LayerChoice, num_layers: int) -> None:
        super().__init__()
        self.choice = choice
        learned = choice == "weighted-all"
        self.weights_K = nn.Parameter(torch.zeros(num_layers)) if learned else None
        self.scale = nn.Parameter(torch.ones(1)) if learned else None

    def reset_parameters(self) -> None:
        """Begin with every layer alike, and their mean as it is."""
        if self.weights_K is not None and self.scale is not None:
            init.zeros_(self.weights_K)
            init.ones_(self.scale)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """The states [T, D] of the embeddings and the layers as one [T, D], or [T, 4 D] for `concat-last-4`."""
        if self.choice == "last":
            return states[-1]
        if self.weights_K is None or self.scale is None:
            return mix_layers(states, self.choice)
        return self.scale * mix_layers(states, self.choice, weights_K=self.weights_K.softmax(0))


def both_ends(forwards_TH: Tensor, backwards_TH: Tensor, layout: Layout) -> Tensor:
    """What each direction ends with: the forward one's state at the last token, the backward one's at the first."""
    last_IH = forwards_TH.index_select(0, layout.last_token_I)
    return torch.cat([last_IH, backwards_TH.index_select(0, layout.first_token_I)], dim=-1)


def reader_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a reader, the paper's where none are given.

    Raises:
        ValueError: there is no such setting, or no such choice of layers.
    """
    if unknown := sorted(set(given) - set(_DEFAULTS)):
        raise ValueError(f"bilstm has no {unknown[0]!r}: it has {', '.join(_DEFAULTS)}")
    settings = _DEFAULTS | given
    if settings["layers"] not in LAYER_CHOICES:
        raise ValueError(f"bilstm layers {settings['layers']!r} is none of {', '.join(LAYER_CHOICES)}")
    return settings
