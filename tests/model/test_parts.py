"""What a CPU computes beside real tokens is little, sees few shapes, and changes no result."""

from dataclasses import replace

import pytest
import torch

from bertkit.model import BertKitForPreTraining
from bertkit.model.attention import attend
from bertkit.model.packing import INSTANCES_A_PART, packed_layout, rounded_up

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LENGTHS = (40, 33, 33, 21, 20, 16, 16, 11, 9, 9, 5, 2)


def bounds_of(lengths):
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def layout_for(lengths):
    return packed_layout(bounds_of(lengths), max(lengths), sum(lengths))


def test_parts_are_neighbours_in_rows_of_few_lengths() -> None:
    layout = layout_for(LENGTHS)
    assert [(part.num_rows, part.row_length) for part in layout.parts] == [(INSTANCES_A_PART, 48), (4, 16)]
    assert sum(part.num_tokens for part in layout.parts) == sum(LENGTHS) == layout.num_tokens
    assert layout.num_tokens + layout.tail == rounded_up(layout.num_tokens)


def test_numbers_are_rounded_up_to_few_by_little() -> None:
    counts = range(256, 70_000)
    assert all(0 <= rounded_up(count) - count <= count / 32 for count in counts)
    assert len({rounded_up(count) for count in counts}) <= 32 * 9
    assert [rounded_up(count) for count in (0, 1, 8, 9, 300)] == [0, 8, 8, 16, 304]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_and_gradients_are_those_of_one_layout(implementation, dtype) -> None:
    layout = layout_for(LENGTHS)
    found = []
    for chosen in (replace(layout, parts=(), tail=0), layout):
        generator = torch.Generator().manual_seed(0)
        qkv = torch.randn(sum(LENGTHS), 3, 2, 4, generator=generator, dtype=dtype).requires_grad_()
        given = torch.nn.functional.pad(qkv, (0, 0) * 3 + (0, chosen.tail))
        context, _ = attend(given, chosen, implementation=implementation)
        assert len(context) == sum(LENGTHS) + chosen.tail
        context[: sum(LENGTHS)].square().sum().backward()
        found.append((context[: sum(LENGTHS)], qkv.grad))
    torch.testing.assert_close(*found, **CLOSE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("num_masked", [1, 9, 30])
def test_a_model_gives_the_same_whatever_was_added(tiny_config, monkeypatch, implementation, num_masked) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = (7, 7, 5, 4, 4, 3, 2, 2, 2)
    ids = torch.randint(5, tiny_config.vocab_size, (sum(lengths),), generator=generator)
    positions = torch.randperm(sum(lengths), generator=generator)[:num_masked]
    batch = {"input_ids": ids, "cu_seqlens": bounds_of(lengths), "max_seqlen": 7}
    torch.manual_seed(0)
    tiny_config._attn_implementation = implementation
    model, found = BertKitForPreTraining(tiny_config).eval(), []
    for module in ("packing", "modeling_bertkit"):
        found.append(gradients_of(model, batch, positions, ids))
        monkeypatch.setattr(f"bertkit.model.{module}.rounded_up", lambda count: count)
    torch.testing.assert_close(gradients_of(model, batch, positions, ids), found[0], **CLOSE)
    torch.testing.assert_close(found[1], found[0], **CLOSE)


def gradients_of(model, batch, positions, ids):
    model.zero_grad()
    outputs = model(**batch, masked_positions=positions, masked_labels=ids[positions])
    assert len(outputs.seq_relationship_logits) == 9
    (outputs.mlm_sum + outputs.seq_relationship_logits.square().sum()).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_recorded_states_hold_real_tokens_only(tiny_config) -> None:
    lengths = (7, 5, 1)
    outputs = BertKitForPreTraining(tiny_config)(
        torch.ones(13, dtype=torch.int64), cu_seqlens=bounds_of(lengths), max_seqlen=7, output_hidden_states=True
    )
    assert {len(states) for states in outputs.hidden_states} == {13}


def test_weights_are_given_for_all_instances_at_once() -> None:
    _, weights = attend(torch.randn(14, 3, 2, 4), layout_for((6, 6, 2)), implementation="eager")
    assert weights.shape == (3, 2, 6, 6)
