"""Linear layers by oneDNN: the same numbers and gradients, whatever the shape, and nothing left behind."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from shared import fast_linear
from shared.empty_models import without_initialisation
from shared.fast_linear import FastLinear, eight_bit_product, packed_weights, with_fast_linears

needs_onednn = pytest.mark.skipif(not fast_linear.available(), reason="this PyTorch has no oneDNN")


def pair(n_in, n_out, bias=True):
    """The same linear layer twice, the second one fast for products of any size."""
    torch.manual_seed(1)
    plain = nn.Linear(n_in, n_out, bias=bias)
    return plain, with_fast_linears(copy.deepcopy(plain))


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(fast_linear, "WORTH_A_CALL", 0)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (3, 5), (2, 7, 5), (2, 3, 4, 5), (5,), (64, 5)])
def test_values_and_gradients_are_those_of_pytorch(any_size, shape, bias):
    plain, fast = pair(5, 11, bias)
    assert type(fast) is FastLinear
    x = torch.randn(shape)
    found = []
    for layer in (plain, fast):
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        found.append([y, inputs.grad, *(p.grad for p in layer.parameters())])
    for ours, want in zip(found[1], found[0]):
        assert ours.shape == want.shape and ours.dtype == want.dtype
        torch.testing.assert_close(ours, want, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_only_the_gradients_that_are_asked_for(any_size):
    _, fast = pair(5, 11)
    fast.weight.requires_grad_(False)
    x = torch.randn(3, 5, requires_grad=True)
    fast(x).sum().backward()
    assert fast.weight.grad is None and x.grad is not None and fast.bias.grad is not None
    with torch.no_grad():
        assert not fast(x).requires_grad


@needs_onednn
def test_a_strided_input_is_read_as_it_is_meant(any_size):
    plain, fast = pair(6, 11)
    for x in (
        torch.randn(6, 8).T,
        torch.randn(8, 12)[:, ::2],
        torch.randn(3, 8, 6).transpose(0, 1),
        torch.randn(1, 6).expand(4, 6),
    ):
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-5)


@needs_onednn
def test_other_precisions_are_left_to_pytorch(any_size):
    plain, fast = pair(8, 8)
    x = torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == torch.bfloat16 and torch.equal(fast(x), plain(x))
    assert torch.equal(fast.double()(x.double()), plain.double()(x.double()))
    assert torch.equal(fast.bfloat16()(x.bfloat16()), plain.bfloat16()(x.bfloat16()))


def test_names_copies_and_files_are_as_before(tmp_path):
    plain, fast = pair(5, 11)
    assert list(fast.state_dict()) == list(plain.state_dict()) and isinstance(fast, nn.Linear)
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(again.weight, plain.weight)
    plain.load_state_dict(fast.state_dict())


@needs_onednn
def test_layers_of_other_classes_stay_what_they_are():
    class Own(nn.Linear):
        pass

    model = with_fast_linears(nn.Sequential(Own(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)))
    assert [type(part) for part in model] == [Own, FastLinear, nn.LayerNorm]


@needs_onednn
def test_packed_weights_give_the_same_and_leave_nothing_behind():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256, bias=False), nn.Linear(2, 2))[:3]
    x = torch.randn(3, 256)
    with torch.no_grad():
        want = model(x)
        with packed_weights(model):
            assert "forward" in vars(model[0]) and "forward" in vars(model[2])
            torch.testing.assert_close(model(x), want, rtol=1e-5, atol=1e-5)
            with packed_weights(model):  # a second one finds nothing to do, and undoes nothing
                torch.testing.assert_close(model(x), want, rtol=1e-5, atol=1e-5)
            assert "forward" in vars(model[0])
        assert torch.equal(model(x), want) and "forward" not in vars(model[0])
    with pytest.raises(RuntimeError, match="meant"), packed_weights(model):
        raise RuntimeError("meant")
    assert "forward" not in vars(model[0])


@needs_onednn
def test_new_weights_are_seen_by_the_next_block():
    layer, x = nn.Linear(256, 256), torch.randn(1, 256)
    for _ in range(2):
        with torch.no_grad():
            layer.weight.normal_()
            with packed_weights(layer):
                torch.testing.assert_close(
                    layer(x), nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-4
                )


@needs_onednn
def test_packed_copies_go_with_the_block(monkeypatch):
    made = []
    real = torch.ops.mkldnn._reorder_linear_weight

    def reorder(*given):
        packed = real(*given)
        made.append(weakref.ref(packed))
        return packed

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", reorder)
    with packed_weights(nn.Linear(256, 256)):
        assert len(made) == 1 and made[0]() is not None
    gc.collect()
    assert made[0]() is None


@needs_onednn
@pytest.mark.parametrize("why", ["few passes", "small", "bfloat16", "no memory", "meta", "no oneDNN"])
def test_where_packing_does_not_pay_nothing_is_packed(monkeypatch, why):
    layer, n_passes = nn.Linear(256, 256), 16
    if why == "few passes":
        n_passes = 15
    elif why == "small":
        layer = nn.Linear(100, 100)
    elif why == "bfloat16":
        layer = layer.bfloat16()
    elif why == "meta":
        layer = layer.to("meta")
    elif why == "no oneDNN":
        monkeypatch.setattr(fast_linear, "available", lambda: False)
    else:
        memory = fast_linear.psutil.virtual_memory()._replace(available=2 * 256 * 256 * 4 - 1)
        monkeypatch.setattr(fast_linear.psutil, "virtual_memory", lambda: memory)
    with packed_weights(layer, n_passes):
        assert "forward" not in vars(layer)


def test_without_onednn_layers_stay_pytorchs(monkeypatch):
    monkeypatch.setattr(fast_linear, "available", lambda: False)
    assert type(with_fast_linears(nn.Linear(2, 2))) is nn.Linear


@pytest.mark.parametrize("n_rows", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("shape", [(32, 32), (96, 160), (33, 64), (64, 33), (1, 1), (10, 3), (192, 576)])
def test_eight_bit_products_of_any_shape(shape, n_rows):
    torch.manual_seed(1)
    numbers, scales = torch.randint(-127, 128, shape, dtype=torch.int8), torch.rand(shape[0]) + 0.01
    x = torch.randn(n_rows, shape[1])
    want = x.double() @ (numbers.double() * scales.double()[:, None]).T
    found = eight_bit_product(x, numbers, scales)
    assert found.dtype == torch.float32 and found.shape == (n_rows, shape[0])
    assert (found - want).abs().max() <= 0.02 * want.abs().max()
    assert torch.equal(eight_bit_product(x.view(n_rows, 1, -1), numbers, scales)[:, 0], found)


def test_layers_without_initialisation():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with without_initialisation():
        layers = [nn.Linear(7, 5), nn.Embedding(7, 5), nn.LayerNorm(5)]
        assert torch.zeros(3).add(1).tolist() == [1, 1, 1]  # all else is computed
    assert torch.equal(torch.get_rng_state(), state)
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 7), (7, 5), (5,)]
    assert nn.Linear(7, 5).weight.std() > 0 and not torch.equal(torch.get_rng_state(), state)
