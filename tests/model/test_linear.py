"""One layer, two libraries: results and gradients agree, and every case the fast one cannot take goes to torch."""

import pytest
import torch
import torch.nn.functional as F

from bertkit.model import linear as module
from bertkit.model.linear import Linear, linear, multiply

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
needs_onednn = pytest.mark.skipif(not module._HAS_ONEDNN, reason="torch was built without MKL and oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN was asked."""
    seen: list[int] = []
    plain = module._onednn
    monkeypatch.setattr(module, "_onednn", lambda *args: seen.append(1) or plain(*args))
    return seen


@needs_onednn
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 16), (1, 16)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_results_and_gradients_are_torchs(shape, has_bias, calls) -> None:
    torch.manual_seed(0)
    layer = Linear(16, 24, bias=has_bias)
    results = []
    for function in (F.linear, linear):
        given = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        layer.zero_grad()
        output = function(given, layer.weight, layer.bias)
        output.square().sum().backward()
        results.append([output, given.grad, *(parameter.grad.clone() for parameter in layer.parameters())])
    assert len(calls) == 3  # forward, and the gradients of input and weight
    for expected, found in zip(*results, strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, **CLOSE)


@needs_onednn
def test_what_is_frozen_costs_no_product(calls) -> None:
    layer = Linear(16, 24).requires_grad_(False)
    layer(torch.randn(5, 16)).sum()
    layer(torch.randn(5, 16, requires_grad=True)).sum().backward()
    assert len(calls) == 3  # two forward, one gradient of the input


@needs_onednn
def test_matrices_may_be_transposed(calls) -> None:
    left, right = torch.randn(7, 5).t(), torch.randn(7, 9).t()
    torch.testing.assert_close(multiply(left, right), left @ right.t(), **CLOSE)
    assert calls


def in_bfloat16(layer, given):
    return layer.bfloat16()(given.bfloat16())


def under_autocast(layer, given):
    with torch.autocast("cpu", torch.bfloat16):
        return layer(given)


def on_no_device(layer, given):
    return layer.to("meta")(given.to("meta"))


def without_rows(layer, given):
    return layer(given[:0])


def one_vector(layer, given):
    return layer(given[0])


def vectorised(layer, given):
    return torch.func.vmap(layer)(given)


def with_onednn_off(layer, given):
    torch._C._set_mkldnn_enabled(False)
    try:
        return layer(given)
    finally:
        torch._C._set_mkldnn_enabled(True)


WAYS = [in_bfloat16, under_autocast, on_no_device, without_rows, one_vector, vectorised, with_onednn_off]


@pytest.mark.parametrize("way", WAYS)
def test_everything_else_is_torchs_own(way, calls) -> None:
    output = way(Linear(16, 24), torch.randn(5, 16))
    assert output.shape[-1] == 24
    assert not calls


def test_it_is_exported_as_a_plain_linear_layer() -> None:
    program = torch.export.export(torch.nn.Sequential(Linear(4, 3)), (torch.randn(2, 4),))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert names == {"aten.linear.default"}


def test_second_derivatives_are_torchs() -> None:
    torch.manual_seed(0)
    layer, found = Linear(4, 3), []
    for function in (F.linear, linear):
        given = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = function(given, layer.weight, layer.bias).sigmoid().sum()
        (gradient,) = torch.autograd.grad(loss, given, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), (given, layer.weight)))
    torch.testing.assert_close(*found, **CLOSE)
