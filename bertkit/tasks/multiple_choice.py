"""Multiple choice: a context with each of its choices, one score each, as many choices as a row has (section 4.4).

Letters: F features (one a choice), G examples, E examples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bertkit.data.features import Array, Features, assemble_features
from bertkit.data.texts import TextEncoder, cut_pair
from bertkit.errors import TaskError
from bertkit.model import BertKitForMultipleChoice
from bertkit.tasks.problem import Prediction, Problem, ProblemOptions, encoder_inputs
from bertkit.tasks.spec import Example
from bertkit.train.loop import Batch, LossTerm


def _featurize(
    examples: Sequence[Example], encoder: TextEncoder, options: ProblemOptions, with_targets: bool
) -> Features:
    """One feature a choice, [CLS] context [SEP] choice [SEP]; the features of an example are one group.

    Raises:
        TaskError: an example has no choice, or its label is none of their numbers; names the row.
    """
    pieces = iter(encoder.encode([text for example in examples for text in example.texts]))
    rows, sizes, num_cut = [], [], 0
    for example in examples:
        context, *choices = [next(pieces) for _ in example.texts]
        if not choices:
            raise TaskError(f"{example.place} has no choices: give two or more, or remove the row")
        was_cut = False
        for choice in choices:
            first, second = cut_pair(len(context), len(choice), room=options.max_seq_length - 3)
            rows.append(encoder.row(context.ids[:first], choice.ids[:second]))
            was_cut |= first < len(context) or second < len(choice)
        sizes.append(len(choices))
        num_cut += was_cut
    return assemble_features(
        rows,
        np.repeat(np.arange(len(examples)), sizes),
        group_bounds=np.cumsum([0, *sizes]),
        group_targets={"labels": _right_choices(examples, sizes)} if with_targets else {},
        num_cut=num_cut,
    )


def _right_choices(examples: Sequence[Example], sizes: Sequence[int]) -> Array:
    for example, size in zip(examples, sizes, strict=True):
        if not isinstance(example.label, int) or not 0 <= example.label < size:
            raise TaskError(
                f"{example.place} says that choice {example.label!r} of {size} is right: number them from 0, or remove "
                "the row"
            )
    return np.array([example.label for example in examples], np.int64)


def _scores(model: nn.Module, batch: Batch) -> Tensor:
    """[F, 1] the score of every choice; the number of choices may differ from example to example."""
    logits_F1: Tensor = model(**encoder_inputs(batch), num_choices=1).logits
    return logits_F1.float()


def _loss_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    scores_F, sizes_G, labels_G = _scores(model, batch)[:, 0], batch["group_sizes"], batch["labels"]
    starts_G = sizes_G.cumsum(0) - sizes_G
    most = int(sizes_G.max())
    # Rows of equal length, the places beyond an example's own choices impossible.
    column_GX = torch.arange(most, device=scores_F.device).expand(len(sizes_G), most)
    place_GX = (starts_G[:, None] + column_GX).clamp(max=len(scores_F) - 1)
    scores_GX = scores_F[place_GX].masked_fill(column_GX >= sizes_G[:, None], float("-inf"))
    loss = torch.nn.functional.cross_entropy(scores_GX, labels_G, reduction="sum")
    return {"choice": LossTerm(loss, len(labels_G), (scores_GX.argmax(-1) == labels_G).sum())}


def _decode(examples: Sequence[Example], features: Features, scores_F1: Array, _: ProblemOptions) -> list[Prediction]:
    bounds = np.searchsorted(features.example_of, np.arange(len(examples) + 1))
    predictions = []
    for example, start, end in zip(examples, bounds[:-1], bounds[1:], strict=True):
        raised = np.exp(scores_F1[start:end, 0] - scores_F1[start:end, 0].max())
        probabilities = raised / raised.sum()
        best = int(probabilities.argmax())
        details = {"probabilities": [round(float(value), 6) for value in probabilities]}
        predictions.append(Prediction(example.key, best, float(probabilities[best]), details))
    return predictions


MULTIPLE_CHOICE = Problem(
    name="multiple_choice",
    model_class=BertKitForMultipleChoice,
    level="feature",
    featurize=_featurize,
    loss_terms=_loss_terms,
    target_counts=lambda batch: {"choice": len(batch["labels"])},
    outputs=_scores,
    decode=_decode,
)
