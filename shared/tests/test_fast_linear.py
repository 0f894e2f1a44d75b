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
@pytest.mark.parametrize("frozen, n_products", [("weight", 2), ("x", 2), ("both", 1), ("nothing", 3)])
def test_only_the_gradients_that_are_asked_for(any_size, monkeypatch, frozen, n_products):
    """As many products as needed, and nothing kept for a gradient that nobody wants."""
    calls, kept = [], []
    real = fast_linear.product
    monkeypatch.setattr(fast_linear, "product", lambda *given: calls.append(given) or real(*given))
    _, fast = pair(5, 11)
    fast.weight.requires_grad_(frozen not in ("weight", "both"))
    x = torch.randn(3, 5, requires_grad=frozen not in ("x", "both"))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = fast(x)
    y.sum().backward()
    assert len(calls) == n_products and fast.bias.grad is not None
    assert (fast.weight.grad is None) == (frozen in ("weight", "both")) and (x.grad is None) == (
        frozen in ("x", "both")
    )
    assert len(kept) == n_products - 1
    with torch.no_grad():
        assert not fast(x).requires_grad


@needs_onednn
@pytest.mark.parametrize("how", ["turned", "with gaps", "swapped", "expanded"])
def test_a_strided_input_is_read_as_it_is_meant(any_size, how):
    x = {"turned": torch.randn(6, 8).T, "with gaps": torch.randn(8, 12)[:, ::2],
         "swapped": torch.randn(3, 8, 6).transpose(0, 1), "expanded": torch.randn(1, 6).expand(4, 6)}[how]  # fmt: skip
    plain, fast = pair(6, 11)
    for layer in (plain, fast):
        layer(x).square().sum().backward()
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad, rtol=1e-5, atol=1e-4)


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
@pytest.mark.parametrize("shape", [(256,), (1, 256), (3, 256), (8, 256), (17, 256), (2, 150, 256)])
def test_packed_weights_give_the_same_and_leave_nothing_behind(shape):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256, bias=False), nn.LayerNorm(256))
    x = torch.randn(shape)
    with torch.no_grad():
        want = model(x)
        with packed_weights(model):
            assert "forward" in vars(model[0]) and "forward" in vars(model[2])
            torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-4)
            with packed_weights(model):  # a second one finds nothing to do, and undoes nothing
                torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-4)
            assert "forward" in vars(model[0])
        assert torch.equal(model(x), want) and "forward" not in vars(model[0])


@needs_onednn
def test_where_packed_weights_do_not_suit_the_layer_computes_as_before():
    torch.manual_seed(1)
    layer, x = nn.Linear(256, 256), torch.randn(3, 256)
    with packed_weights(layer):
        layer(x).sum().backward()  # gradients are asked for
        assert layer.weight.grad is not None
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
            with pytest.raises(RuntimeError, match="shapes"):
                layer(torch.randn(3, 255))
            layer.weight.add_(1.0)  # trained meanwhile
            assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
            layer.weight = nn.Parameter(torch.zeros(256, 256))
            assert torch.equal(layer(x), layer.bias.expand(3, 256))


@needs_onednn
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_stopped_in_the_middle_of_packing_nothing_stays_packed(monkeypatch, error):
    model, real, made = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256)), fast_linear.Packed, []

    def stops(layer):
        if made:
            raise error("meant")
        made.append(layer)
        return real(layer)

    monkeypatch.setattr(fast_linear, "Packed", stops)
    if error is RuntimeError:  # no memory after all: it goes on without
        with packed_weights(model):
            assert "forward" not in vars(model[0])
    else:
        with pytest.raises(error), packed_weights(model):
            raise AssertionError("the block must not begin")
    assert "forward" not in vars(model[0]) and "forward" not in vars(model[1])


@needs_onednn
def test_two_blocks_at_once_do_not_take_each_others_weights_off():
    layer = nn.Linear(256, 256)
    first = packed_weights(layer)
    first.__enter__()
    its = vars(layer)["forward"]
    layer.forward = other = fast_linear.Packed(layer)  # as a second call would, in another thread
    first.__exit__(None, None, None)
    assert vars(layer)["forward"] is other and its is not other


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
    layer = nn.Linear(256, 256)
    with packed_weights(layer):
        assert len(made) == 1 and made[0]() is not None
    gc.collect()
    assert made[0]() is None
    try:
        with packed_weights(layer):
            raise ValueError("kept")
    except ValueError as error:
        kept = error  # its traceback holds the frame of the block
        gc.collect()
        assert made[1]() is None and kept.__traceback__ is not None


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
        monkeypatch.setattr(fast_linear, "memory_left", lambda: 2 * 256 * 256 * 4 - 1)
    with packed_weights(layer, n_passes):
        assert "forward" not in vars(layer)


def test_without_onednn_layers_stay_pytorchs(monkeypatch):
    monkeypatch.setattr(fast_linear, "available", lambda: False)
    assert type(with_fast_linears(nn.Linear(2, 2))) is nn.Linear


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(fast_linear, "Path", lambda name: tmp_path)
    whole = fast_linear.memory_left()
    for limit, want in (("max", None), ("5000", 4000)):
        (tmp_path / "memory.max").write_text(limit + "\n", encoding="utf-8")
        (tmp_path / "memory.current").write_text("1000\n", encoding="utf-8")
        found = fast_linear.memory_left()
        assert found == want if want else found > 0.5 * whole


@pytest.mark.parametrize("n_rows", [0, 1, 2, 16, 17, 40])
@pytest.mark.parametrize("shape", [(32, 32), (96, 160), (33, 64), (64, 33), (1, 1), (10, 3), (192, 576)])
def test_eight_bit_products_of_any_shape(shape, n_rows):
    torch.manual_seed(1)
    numbers, scales = torch.randint(-127, 128, shape, dtype=torch.int8), torch.rand(shape[0]) + 0.01
    x = torch.randn(n_rows, shape[1])
    want = x.double() @ (numbers.double() * scales.double()[:, None]).T
    found = eight_bit_product(x, numbers, scales)
    assert found.dtype == torch.float32 and found.shape == (n_rows, shape[0])
    assert not n_rows or (found - want).abs().max() <= 0.02 * want.abs().max()
    assert torch.equal(eight_bit_product(x.view(n_rows, 1, shape[1]), numbers, scales)[:, 0], found)


def test_layers_without_initialisation():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with without_initialisation():
        layers = [nn.Linear(7, 5), nn.Embedding(7, 5), nn.LayerNorm(5)]
        assert torch.zeros(3).add(1).tolist() == [1, 1, 1]  # all else is computed
    assert torch.equal(torch.get_rng_state(), state)
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 7), (7, 5), (5,)]
    assert nn.Linear(7, 5).weight.std() > 0 and not torch.equal(torch.get_rng_state(), state)
