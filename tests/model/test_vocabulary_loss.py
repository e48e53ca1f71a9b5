"""The loss without stored logits is the loss with them: values, gradients, right answers, in every precision."""

import pytest
import torch
import torch.nn.functional as F

from bertkit.model import BertKitForMaskedLM, BertKitForPreTraining, pretraining_correct, pretraining_losses
from bertkit.model import vocabulary_loss as module
from bertkit.model.vocabulary_loss import vocabulary_loss

M, D, V = 70, 16, 50
CLOSE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.bfloat16: {"rtol": 3e-2, "atol": 6e-2}}


def drawn(seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(M, D, generator=generator), torch.randn(V, D, generator=generator)
    bias, labels = torch.randn(V, generator=generator), torch.randint(0, V, (M,), generator=generator)
    return *(tensor.requires_grad_() for tensor in (hidden, weight, bias)), labels


def reference(hidden, weight, bias, labels):
    logits = F.linear(hidden, weight, bias).float()
    return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(-1) == labels).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 32, 64, 1000])
def test_values_and_gradients_equal_those_through_logits(monkeypatch, dtype, rows) -> None:
    monkeypatch.setattr(module, "_LEAST_ROWS", rows)
    monkeypatch.setitem(module._LOGITS_AT_ONCE, "cpu", 0)
    results = []
    for function in (reference, vocabulary_loss):
        *inputs, labels = drawn()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss, correct = function(*inputs, labels)
        (loss / 7).backward()
        results.append([loss, correct, *(tensor.grad for tensor in inputs)])
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, **CLOSE[dtype])


def test_without_gradients_none_are_formed() -> None:
    *inputs, labels = drawn()
    with torch.no_grad():
        loss, correct = vocabulary_loss(*inputs, labels)
    assert not loss.requires_grad
    torch.testing.assert_close((loss, correct), reference(*(tensor.detach() for tensor in inputs), labels))


def test_scores_beyond_the_range_of_exp_stay_finite() -> None:
    *inputs, labels = drawn()
    loss, _ = vocabulary_loss(inputs[0] * 1e3, *inputs[1:], labels)
    torch.testing.assert_close(loss, reference(inputs[0] * 1e3, *inputs[1:], labels)[0])


@pytest.mark.parametrize("model_class", [BertKitForPreTraining, BertKitForMaskedLM])
def test_a_model_given_the_words_gives_their_loss_and_no_logits(tiny_config, packed, model_class) -> None:
    torch.manual_seed(0)
    model = model_class(tiny_config).eval()
    batch = {"labels": torch.tensor([11, 12, 13])}
    positions = torch.tensor([2, 8, 14])
    through_logits = model(**packed, masked_positions=positions)
    summed = model(**packed, masked_positions=positions, masked_labels=batch["labels"])
    assert summed.get("logits") is None
    assert summed.get("prediction_logits") is None
    for function in (pretraining_losses, pretraining_correct):
        torch.testing.assert_close(function(summed, batch), function(through_logits, batch))


def test_words_without_their_positions_are_refused(tiny_config, packed) -> None:
    with pytest.raises(ValueError, match="masked_positions"):
        BertKitForMaskedLM(tiny_config)(**packed, masked_labels=torch.tensor([1]))


def test_second_derivatives_are_refused() -> None:
    *inputs, labels = drawn()
    loss, _ = vocabulary_loss(*inputs, labels)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss, inputs[0], create_graph=True)


def test_rows_without_a_target_change_nothing() -> None:
    found = []
    for extra in (0, 5):
        *inputs, labels = drawn()
        hidden = torch.cat([inputs[0], torch.randn(extra, D)])
        loss, correct = vocabulary_loss(hidden, *inputs[1:], F.pad(labels, (0, extra), value=-100))
        loss.backward()
        found.append([loss, correct, *(tensor.grad for tensor in inputs)])
    torch.testing.assert_close(*found)


def test_a_tie_is_right_for_one_word_only() -> None:
    # As argmax has it, or a model that scores every word alike would be right always.
    labels = torch.arange(10) % 5
    _, correct = vocabulary_loss(torch.zeros(10, D), torch.randn(5, D), torch.zeros(5), labels)
    assert correct == 2
