"""From examples to predictions: featurized and decoded chunk by chunk, so that memory does not grow with the input."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import nn

from bertkit.data.features import Array, Features, batches_by_length, collate_features
from bertkit.data.texts import TextEncoder
from bertkit.tasks.problem import Prediction, Problem, ProblemOptions
from bertkit.tasks.spec import Example

logger = logging.getLogger(__name__)

EXAMPLES_A_CHUNK = 1024
# Tokens of a batch, padding counted: some 40 MB of activations at the width of BERT base.
TOKENS_A_BATCH = 4096


@dataclass(frozen=True)
class Predictor:
    """A model with a head, and all that turns an example into its prediction; `seen` counts the inputs."""

    problem: Problem
    model: nn.Module
    encoder: TextEncoder
    options: ProblemOptions
    device: torch.device
    seen: Counter[str] = field(default_factory=Counter, compare=False)

    def predict(self, examples: Iterable[Example]) -> Iterator[Prediction]:
        """The prediction of every example, in order."""
        for chunk in chunked(examples, EXAMPLES_A_CHUNK):
            features = self.featurize(chunk)
            self.seen.update(inputs=len(chunk), cut=features.num_cut)
            yield from self.predict_chunk(chunk, features)

    def say_what_was_cut(self) -> None:
        """Logs the share of the inputs predicted so far that lost tokens, if any did."""
        if self.seen["cut"]:
            cut, total, length = self.seen["cut"], self.seen["inputs"], self.options.max_seq_length
            logger.info("%s", f"{cut:,} of {total:,} inputs ({100 * cut / total:.1f} %) are cut at {length} tokens")


def chunked(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Examples in lists of `size`, the last one shorter."""
    source = iter(examples)
    while chunk := list(islice(source, size)):
        yield chunk
