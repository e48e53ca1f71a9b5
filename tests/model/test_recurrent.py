"""An LSTM over packed tokens is `nn.LSTM` over every instance alone."""

import pytest
import torch
from torch import nn

from bertkit.model.packing import packed_layout, padded_layout
from bertkit.model.recurrent import run_lstm

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
RAGGED = (1, 40, 7, 7, 33, 16, 17, 1, 3, 20, 2, 48)
LENGTHS = {"one token": (1,), "ones": (1, 1, 1), "equal": (5, 5, 5), "ragged": RAGGED, "long": (70, 2)}


def lstm_of(**shape):
    torch.manual_seed(0)
    return nn.LSTM(6, 10, **shape)


def tokens_for(lengths, width=6):
    return torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(1))


def layout_for(lengths):
    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return packed_layout(bounds, max(lengths), sum(lengths))


def alone(lstm, tokens, lengths, *, reverse):
    """Every instance by itself, turned round before and after for the other direction."""
    outputs = []
    for own in tokens.split(list(lengths)):
        read = own.flip(0) if reverse else own
        out = lstm(read)[0]
        outputs.append(out.flip(0) if reverse else out)
    return torch.cat(outputs)


def values_and_gradients(run, lstm, tokens):
    lstm.zero_grad()
    given = tokens.clone().requires_grad_()
    out = run(given)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out, given.grad, *(parameter.grad.clone() for parameter in lstm.parameters())]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [{}, {"proj_size": 4}, {"num_layers": 2}], ids=["plain", "projected", "two layers"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_values_and_gradients_are_those_of_each_instance_alone(lengths, shape, reverse) -> None:
    lstm, tokens, layout = lstm_of(**shape), tokens_for(lengths), layout_for(lengths)
    expected = values_and_gradients(lambda given: alone(lstm, given, lengths, reverse=reverse), lstm, tokens)
    found = values_and_gradients(lambda given: run_lstm(lstm, given, layout, reverse=reverse), lstm, tokens)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_may_be_padded_on_either_side_inside_or_everywhere(reverse) -> None:
    mask_BS = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    lengths, lstm = tuple(mask_BS.sum(1).tolist()), lstm_of()
    tokens, layout = tokens_for(lengths), padded_layout(4 + 1, 5, mask_BS, device=torch.device("cpu"))
    expected = alone(lstm, tokens, [n for n in lengths if n], reverse=reverse)
    torch.testing.assert_close(run_lstm(lstm, tokens, layout, reverse=reverse), expected, **CLOSE)


# torch's own nn.LSTM looks at its weights while it is traced.
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("reverse", [False, True])
def test_a_traced_graph_which_computes_padding_gives_the_same_states(reverse) -> None:
    mask_BS = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    lstm, rows_BSD = lstm_of(), tokens_for((15,)).view(3, 5, 6)

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lstm

        def forward(self, rows_BSD, mask_BS):
            layout = padded_layout(3, 5, mask_BS, device=rows_BSD.device)
            out_TW = run_lstm(self.lstm, layout.to_tokens(rows_BSD), layout, reverse=reverse)
            return layout.to_rows(out_TW)

    model = Rows()
    exported = torch.export.export(model, (rows_BSD, mask_BS)).module()
    torch.testing.assert_close(exported(rows_BSD, mask_BS), model(rows_BSD, mask_BS), **CLOSE)


@pytest.mark.parametrize("reverse", [False, True])
def test_all_rows_to_the_end_give_the_same_states(monkeypatch, reverse) -> None:
    # What a GPU runs, where no length is read back.
    lstm, tokens, layout = lstm_of(), tokens_for(RAGGED), layout_for(RAGGED)
    expected = run_lstm(lstm, tokens, layout, reverse=reverse)
    monkeypatch.setattr("bertkit.model.recurrent.is_tracing", lambda _: True)
    torch.testing.assert_close(run_lstm(lstm, tokens, layout, reverse=reverse), expected, **CLOSE)


def test_nothing_waits_for_the_device() -> None:
    # Tensors on the meta device have no values, so reading one back raises.
    lstm, bounds = lstm_of().to("meta"), torch.tensor([0, 3, 5], dtype=torch.int32, device="meta")
    out = run_lstm(lstm, torch.empty(5, 6, device="meta"), packed_layout(bounds, 3, 5), reverse=True)
    assert out.shape == (5, 10)


def test_steps_leave_out_rows_that_are_over(monkeypatch) -> None:
    lengths = (64, *[16] * 15)
    lstm, computed = lstm_of(), []
    lstm.register_forward_hook(lambda _, given, __: computed.append(tuple(given[0].shape[:2])))
    run_lstm(lstm, tokens_for(lengths), layout_for(lengths))
    assert computed == [(16, 16), (48, 8)]


def test_no_token_sees_one_that_is_read_later() -> None:
    lstm, tokens, layout = lstm_of(), tokens_for(RAGGED), layout_for(RAGGED)
    changed = tokens.clone()
    changed[20] += 1  # inside the instance of tokens 1 to 40
    for reverse, same in ((False, slice(0, 20)), (True, slice(21, None))):
        before, after = (run_lstm(lstm, given, layout, reverse=reverse) for given in (tokens, changed))
        assert torch.equal(before[same], after[same])
        assert torch.equal(before[41:], after[41:])
        assert not torch.equal(before[20], after[20])


def test_an_lstm_of_both_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="run_lstm runs one direction"):
        run_lstm(lstm_of(bidirectional=True), tokens_for((3,)), layout_for((3,)))
