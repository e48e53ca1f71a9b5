"""A loss is a sum and a count."""

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import MaskedLMOutput

from bertkit.model import BertKitForPreTrainingOutput, pretraining_correct, pretraining_counts, pretraining_losses

WORDS = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
NEXT = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
OUTPUTS = BertKitForPreTrainingOutput(prediction_logits=WORDS, seq_relationship_logits=NEXT)
BATCH = {"labels": torch.tensor([3, 8, -100, 0]), "next_sentence_label": torch.tensor([0, 0, 0])}


def test_sums_are_cross_entropies_and_counts_are_targets() -> None:
    losses = pretraining_losses(OUTPUTS, BATCH)
    torch.testing.assert_close(losses["mlm"][0], F.cross_entropy(WORDS, BATCH["labels"], reduction="sum"))
    torch.testing.assert_close(losses["nsp"][0], F.cross_entropy(NEXT, BATCH["next_sentence_label"], reduction="sum"))
    assert (int(losses["mlm"][1]), int(losses["nsp"][1])) == (3, 3)


def test_a_term_without_labels_is_absent() -> None:
    assert set(pretraining_losses(OUTPUTS, {"labels": BATCH["labels"]})) == {"mlm"}
    assert set(pretraining_counts({"next_sentence_label": BATCH["next_sentence_label"]})) == {"nsp"}


def test_a_masked_lm_without_the_next_sentence_head_has_the_same_loss() -> None:
    batch = {"labels": BATCH["labels"]}
    alone = pretraining_losses(MaskedLMOutput(logits=WORDS), batch)
    assert torch.equal(alone["mlm"][0], pretraining_losses(OUTPUTS, batch)["mlm"][0])


def test_sums_are_float32_though_logits_are_bfloat16() -> None:
    outputs = BertKitForPreTrainingOutput(prediction_logits=WORDS.bfloat16(), seq_relationship_logits=NEXT.bfloat16())
    assert {loss.dtype for loss, _ in pretraining_losses(outputs, BATCH).values()} == {torch.float32}


def test_padded_batches_count_the_same_targets() -> None:
    outputs = BertKitForPreTrainingOutput(prediction_logits=WORDS.view(2, 2, 9), seq_relationship_logits=NEXT)
    batch = {"labels": BATCH["labels"].view(2, 2)}
    assert torch.equal(
        pretraining_losses(outputs, batch)["mlm"][0], pretraining_losses(OUTPUTS, batch | BATCH)["mlm"][0]
    )


def test_correct_predictions_are_counted() -> None:
    right, wrong = int(WORDS[0].argmax()), int(WORDS[3].argmin())
    batch = {"labels": torch.tensor([right, -100, -100, wrong]), "next_sentence_label": torch.tensor([0, 1, 1])}
    correct = pretraining_correct(OUTPUTS, batch)
    assert {term: (int(hits), int(count)) for term, (hits, count) in correct.items()} == {"mlm": (1, 2), "nsp": (2, 3)}
