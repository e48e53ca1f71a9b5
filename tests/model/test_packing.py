"""Laws of moving between rows and packed tokens."""

import pytest
import torch

from bertkit.model.packing import cu_seqlens_of, layout_of, packed_layout, padded_layout, token_slots

CPU = torch.device("cpu")
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 1, 1]])  # the last row has a hole


def test_boundaries_are_the_running_sum_of_lengths() -> None:
    assert cu_seqlens_of(MASK).tolist() == [0, 3, 4, 7]
    assert cu_seqlens_of(MASK).dtype == torch.int32


def test_every_instance_starts_its_own_row() -> None:
    cu_seqlens = torch.tensor([0, 3, 4, 7], dtype=torch.int32)
    assert token_slots(cu_seqlens, 4, 7).tolist() == [0, 1, 2, 4, 8, 9, 10]


def test_an_empty_instance_has_no_slot() -> None:
    cu_seqlens = torch.tensor([0, 2, 2, 3], dtype=torch.int32)
    assert token_slots(cu_seqlens, 2, 3).tolist() == [0, 1, 4]


def test_packing_keeps_the_masks_tokens_in_order_and_unpacking_puts_them_back() -> None:
    rows = torch.arange(12.0).view(3, 4, 1)
    layout = padded_layout(3, 4, MASK, device=CPU)
    tokens = layout.inward(rows)
    assert tokens.squeeze(1).tolist() == [0, 1, 2, 4, 8, 10, 11]
    assert torch.equal(layout.outward(tokens), rows * MASK[..., None])


def test_empty_slots_take_the_fill() -> None:
    layout = padded_layout(3, 4, MASK, device=CPU)
    assert layout.outward(torch.ones(7), fill=-9.0)[1].tolist() == [1, -9, -9, -9]


def test_positions_are_columns_of_the_callers_rows() -> None:
    assert padded_layout(3, 4, MASK, device=CPU).positions_T().tolist() == [0, 1, 2, 0, 0, 2, 3]


def test_packed_positions_count_from_each_start() -> None:
    cu_seqlens = torch.tensor([0, 3, 4, 7], dtype=torch.int32)
    assert packed_layout(cu_seqlens, 3, 7).positions_T().tolist() == [0, 1, 2, 0, 0, 1, 2]


def test_full_rows_move_as_views() -> None:
    rows = torch.arange(6.0).view(2, 3)
    layout = padded_layout(2, 3, torch.ones(2, 3), device=CPU)
    assert layout.slots_T is None
    assert layout.mask is None
    assert layout.inward(rows).data_ptr() == rows.data_ptr()


def test_equal_lengths_need_no_mask_when_packed() -> None:
    layout = packed_layout(torch.tensor([0, 3, 6], dtype=torch.int32), 3, 6)
    assert layout.slots_T is None
    assert layout.positions_T().tolist() == [0, 1, 2, 0, 1, 2]


def test_custom_masks_compute_every_slot() -> None:
    layout = padded_layout(1, 2, torch.tensor([[[1, 0], [1, 1]]]), device=CPU)
    assert layout.slots_T is None
    assert layout.mask is not None
    assert layout.mask.tolist() == [[[[True, False], [True, True]]]]


def test_moving_passes_gradients_to_tokens_only() -> None:
    rows = torch.ones(3, 4, requires_grad=True)
    padded_layout(3, 4, MASK, device=CPU).inward(rows).sum().backward()
    assert torch.equal(rows.grad, MASK.float())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"input_ids": None}, "exactly one of input_ids and inputs_embeds"),
        ({"input_ids": torch.ones(2, 3), "inputs_embeds": torch.ones(2, 3, 4)}, "exactly one of"),
        ({"input_ids": torch.ones(5, dtype=torch.long)}, "packed ones need cu_seqlens"),
        ({"input_ids": torch.ones(5, dtype=torch.long), "cu_seqlens": torch.tensor([0, 5])}, "need max_seqlen"),
        ({"input_ids": torch.ones(1, 2).long(), "attention_mask": torch.zeros(1, 2)}, "hides every token"),
    ],
)
def test_arguments_that_say_nothing_clear_are_refused(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        layout_of(**arguments)
