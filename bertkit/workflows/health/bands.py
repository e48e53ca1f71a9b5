"""Where the figures of a healthy pre-training run lie, by size of the model, steps and tokens.

A loss is compared as its share of the corpus' unigram entropy, which makes vocabularies and languages comparable.
Two sizes are tabled, and others lie between them by the logarithm of their encoder's weights. What is known:

- 0.4M weights (2 layers of 128), 0.2M to 6M tokens: 24 runs of our own, recipes/LOG.md; 3.1M weights: three runs.
- 85M weights (base), at its end: 1.4 nats held out, "better than 2.0" expected (J. Devlin, google-research/bert issue
  90); 51 % masked LM and 93 % next sentence accuracy after 50,000 steps of 32 (issue 557); 2.7 nats after 10,000 and 2
  after 30,000 steps (issue 968); about 2 nats and 60 % with batches of 896 (issue 649).

Between and beyond these points the bands are drawn by hand, and wide: leaving one is a reason to look, no proof.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

FIGURES: Final = ("mlm_loss", "mlm_accuracy", "nsp_accuracy")

# The plateau of word frequencies is left after so many updates, however large: a step counts as this many tokens at
# the most where a run is asked whether it lags behind.
_TOKENS_A_STEP: Final = 4096
_SIZES: Final = (0.4e6, 85e6)
_LEARNING_RATES: Final = (2e-3, 2e-4)

# tokens: (lowest, highest) share of the unigram entropy, for each of the sizes.
_LOSS_SHARES: Final = {
    1e5: ((1.00, 1.60), (0.98, 1.80)),
    2e5: ((0.98, 1.45), (0.95, 1.60)),
    5e5: ((0.90, 1.12), (0.88, 1.25)),
    1e6: ((0.86, 1.03), (0.82, 1.10)),
    2e6: ((0.80, 1.00), (0.75, 1.05)),
    5e6: ((0.66, 0.96), (0.60, 1.03)),
    1e7: ((0.60, 0.94), (0.48, 1.02)),
    1e8: ((0.50, 0.88), (0.30, 0.80)),
    1e9: ((0.44, 0.80), (0.20, 0.50)),
    1e10: ((0.40, 0.76), (0.17, 0.38)),
    1e11: ((0.38, 0.74), (0.15, 0.32)),
}
_NSP_ACCURACIES: Final = {
    1e5: ((0.38, 0.62), (0.38, 0.64)),
    1e6: ((0.42, 0.66), (0.42, 0.72)),
    5e6: ((0.45, 0.80), (0.45, 0.85)),
    2e7: ((0.47, 0.88), (0.47, 0.95)),
    1e8: ((0.50, 0.93), (0.54, 0.985)),
    1e9: ((0.55, 0.97), (0.75, 0.997)),
    1e10: ((0.60, 0.985), (0.88, 1.0)),
    1e11: ((0.62, 0.99), (0.92, 1.0)),
}
# Share of the unigram entropy: masked LM accuracy, as it goes along with it in the runs above.
_ACCURACY_OF_SHARE: Final = ((0.15, 0.76), (0.20, 0.70), (0.28, 0.61), (0.37, 0.51), (0.55, 0.37), (0.71, 0.27))
_ACCURACY_OF_LARGE_SHARE: Final = ((0.87, 0.19), (0.94, 0.14), (1.0, 0.09), (1.1, 0.06), (1.3, 0.04), (1.8, 0.0))
_ACCURACY_MARGIN: Final = 0.03


@dataclass(frozen=True)
class BandPoint:
    """The values between which a figure should lie after `step` updates on `tokens` tokens."""

    step: int
    tokens: int
    low: float
    high: float


def bands(
    figure: str, *, num_parameters: int, unigram_entropy: float, steps: Sequence[int], tokens: Sequence[int]
) -> list[BandPoint]:
    """The band of one of the `FIGURES` at every pair of steps and tokens that is far enough into a run to be judged.

    num_parameters: weights of the encoder, without embeddings and heads. unigram_entropy: nats a token.
    """
    points = []
    for step, seen in zip(steps, tokens, strict=True):
        if seen < min(_LOSS_SHARES):
            continue
        kept_pace = min(seen, step * _TOKENS_A_STEP)
        low_share = _at(_LOSS_SHARES, num_parameters, seen)[0]
        high_share = _at(_LOSS_SHARES, num_parameters, kept_pace)[1]
        if figure == "mlm_loss":
            low, high = low_share * unigram_entropy, high_share * unigram_entropy
        elif figure == "mlm_accuracy":
            low = max(0.0, _accuracy(high_share) - _ACCURACY_MARGIN)
            high = _accuracy(low_share) + _ACCURACY_MARGIN
        else:
            low, high = (
                _at(_NSP_ACCURACIES, num_parameters, kept_pace)[0],
                _at(_NSP_ACCURACIES, num_parameters, seen)[1],
            )
        points.append(BandPoint(step, seen, low, high))
    return points


def usual_learning_rate(num_parameters: int) -> float:
    """The highest learning rate of the shipped recipes for an encoder of this size, between them by logarithms."""
    sizes, rates = [math.log(size) for size in _SIZES], [math.log(rate) for rate in _LEARNING_RATES]
    return math.exp(float(np.interp(math.log(num_parameters), sizes, rates)))


def _at(
    table: Mapping[float, tuple[tuple[float, float], ...]], num_parameters: int, tokens: float
) -> tuple[float, float]:
    """(low, high) between the rows of a table by the logarithm of tokens, between its sizes by that of parameters."""
    places = [math.log(row) for row in table]
    sizes = [math.log(size) for size in _SIZES]
    low, high = (
        float(
            np.interp(
                math.log(num_parameters),
                sizes,
                [np.interp(math.log(tokens), places, [row[size][end] for row in table.values()]) for size in (0, 1)],
            )
        )
        for end in (0, 1)
    )
    return low, high


def _accuracy(share: float) -> float:
    known = _ACCURACY_OF_SHARE + _ACCURACY_OF_LARGE_SHARE
    return float(np.interp(share, [share for share, _ in known], [accuracy for _, accuracy in known]))
