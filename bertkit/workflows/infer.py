"""From examples to predictions: featurized and decoded chunk by chunk, so that memory does not grow with the input."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bertkit.data.features import Array, Features, batches_by_length, collate_features
from bertkit.data.texts import TextEncoder
from bertkit.tasks.problem import Prediction, Problem, ProblemOptions
from bertkit.tasks.spec import Example
from bertkit.train.setup import dealt
from bertkit.train.transfer import to_device

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
    accelerator: Accelerator
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

    def featurize(self, examples: Sequence[Example]) -> Features:
        """The inputs of the encoder, without targets."""
        return self.problem.featurize(examples, self.encoder, self.options, False)

    def predict_chunk(self, examples: Sequence[Example], features: Features) -> list[Prediction]:
        """The predictions of examples that are featurized already."""
        was_training = self.model.training
        self.model.eval()
        outputs = self._outputs(features)
        self.model.train(was_training)
        return self.problem.decode(examples, features, outputs, self.options)

    @torch.inference_mode()
    def _outputs(self, features: Features) -> Array:
        """What the model says of every feature, or of every token: in the order of `features`.

        A batch is worked on by one process, and all of them return the whole.
        """
        outputs: Tensor | None = None
        for groups, counts in dealt(batches_by_length(features, max_tokens=TOKENS_A_BATCH), self.accelerator):
            batch = to_device(collate_features(features, groups), self.accelerator.device)
            rows = self.problem.outputs(self.model, batch)
            if outputs is None:
                total = len(features.input_ids) if self.problem.level == "token" else len(features)
                outputs = rows.new_zeros((total, rows.shape[1]))
            if counts:
                chosen = features.features_of(groups)
                outputs[features.tokens_of(chosen) if self.problem.level == "token" else chosen] = rows
        if outputs is None:
            return np.empty((0, 1), np.float32)
        # Whatever one process found, all others hold zeros for.
        return np.asarray(self.accelerator.reduce(outputs, "sum").cpu().numpy())


def chunked(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Examples in lists of `size`, the last one shorter."""
    source = iter(examples)
    while chunk := list(islice(source, size)):
        yield chunk
