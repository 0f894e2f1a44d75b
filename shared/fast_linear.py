"""The products of linear layers by oneDNN, the second library for matrix products that comes with PyTorch.

On the CPU PyTorch hands float32 products to MKL. oneDNN computes the same sums in another order. On an AMD processor
with AVX-512 it was measured to be twice as fast with many rows, and two to three times with a single one, the kind of
product that writing a text consists of. It also stores weights in the order in which it reads them ("packed").
``python3 -m shared bench`` measures both, and appendix D, section D.12, reads the result.

Where PyTorch has no oneDNN (Apple's processors), on a GPU, in other precisions and while compiling, everything here
leaves PyTorch's own product in place.
"""

import platform
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.autograd.function import once_differentiable

# Below so many multiplications a product is over before the call to another library has been prepared.
WORTH_A_CALL = 1_000_000
# Packing takes about the time that it saves on eight tokens; for fewer than this nothing is packed.
WORTH_PACKING = 16
# Up to so many rows the product in bfloat16 is faster; with more it is turning 8-bit numbers back into floats first.
MOST_ROWS_IN_BFLOAT16 = 16


def available():
    """Whether this PyTorch has oneDNN's linear layers, on a processor on which they were measured."""
    return (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
            and platform.machine().lower() in ("x86_64", "amd64"))  # fmt: skip


def product(weight, bias, x):
    """x (..., n_in) times weight (n_out, n_in), plus bias (n_out,) or None; the weight may be packed."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def suits(layer, x):
    """Whether a layer's product with x is one of float32 on the CPU, and fits."""
    return (x.device.type == layer.weight.device.type == "cpu" and x.dtype == layer.weight.dtype == torch.float32
            and x.shape[-1] == layer.in_features
            and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())  # fmt: skip


class Product(torch.autograd.Function):
    """product() with its gradients."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        for_x, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if for_weight else None, weight if for_x else None)
        return product(weight, bias, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])                                     # (rows, n_out)
        return (product(weight.T, None, gradient) if for_x else None,
                product(x.reshape(-1, x.shape[-1]).contiguous().T, None, rows.T) if for_weight else None,
                rows.sum(dim=0) if for_bias else None)  # fmt: skip


class FastLinear(nn.Linear):
    """nn.Linear whose larger products, and their gradients, are oneDNN's; the same up to rounding."""

    def forward(self, x):
        if suits(self, x) and x.numel() * self.out_features >= WORTH_A_CALL:
            return Product.apply(x, self.weight, self.bias)
        return super().forward(x)


def with_fast_linears(model):
    """Let the linear layers of a model compute with oneDNN, in training too; returns the model.

    Parameters, names and results stay as they are, the results up to rounding.
    """
    if available():
        for part in model.modules():
            if type(part) is nn.Linear:
                part.__class__ = FastLinear    # the same object with the same weights; only forward is another
    return model


class Packed:
    """What a linear layer computes with packed weights; where they do not suit, what it computed before."""

    def __init__(self, layer):
        self.layer, self.weight, self.version = layer, layer.weight, layer.weight._version
        # Made for eight rows: measured, this order is the fastest for a single one too.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), 8)

    def __call__(self, x):
        layer = self.layer
        unchanged = layer.weight is self.weight and layer.weight._version == self.version
        if unchanged and suits(layer, x) and not torch.is_grad_enabled():
            return product(self.packed, layer.bias, x)
        return type(layer).forward(layer, x)


@contextmanager
def packed_weights(model, n_passes=WORTH_PACKING):
    """A block in which the linear layers of a model read packed weights, wherever no gradients are asked for.

    Meant for one call at a time; a model cannot be copied or saved whole inside the block.

    Args:
        n_passes: how often the model will be called. Where packing would not pay, or there is no memory for a second
            copy of the weights, nothing is packed.
    """
    layers = [part for part in model.modules() if type(part) in (nn.Linear, FastLinear) and suits_packing(part)]
    n_bytes = sum(4 * layer.weight.numel() for layer in layers)
    if not available() or n_passes < WORTH_PACKING or 2 * n_bytes > memory_left():
        layers = []
    ours = {}
    try:
        try:
            for layer in layers:
                ours[layer] = layer.forward = Packed(layer)    # hides the class's, until it is let go below
        except RuntimeError:                                   # no memory after all
            let_go(ours)
        yield
    finally:
        let_go(ours)


def let_go(ours):
    """Take the packed weights off their layers, and out of a dict that a traceback may keep."""
    while ours:
        layer, forward = ours.popitem()
        if vars(layer).get("forward") is forward:
            del layer.forward


def suits_packing(layer):
    """Whether a linear layer is one whose packed weights read faster: large, float32, on the CPU, not packed yet."""
    weight = layer.weight
    return (type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32
            and weight.numel() >= 2**16 and not weight.is_inference() and "forward" not in vars(layer))  # fmt: skip


def memory_left():
    """Bytes that may still be taken: of the machine, or of a container's limit if that is less."""
    left, limits = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    try:
        limit, used = ((limits / name).read_text(encoding="utf-8") for name in ("memory.max", "memory.current"))
        return min(left, int(limit) - int(used))
    except (OSError, ValueError):    # another system, or "max"
        return left


def eight_bit_product(x, numbers, scales):
    """x (..., n_in) times a matrix of 8-bit numbers (n_out, n_in), the result times the scale of each row (n_out,).

    A few rows on the CPU are computed in bfloat16, without turning the numbers back into floats first; more rows in
    the precision of x.
    """
    rows = x.reshape(-1, x.shape[-1])
    # PyTorch's kernel reads whole blocks, and does not ask whether a matrix is made of such.
    whole_blocks = numbers.shape[0] % 32 == numbers.shape[1] % 32 == 0
    if x.device.type == "cpu" and whole_blocks and 1 <= len(rows) <= MOST_ROWS_IN_BFLOAT16:
        result = torch._weight_int8pack_mm(rows.bfloat16().contiguous(), numbers, scales.bfloat16()).to(x.dtype)
    else:
        result = rows @ (numbers * scales[:, None]).to(x.dtype).T
    return result.view(*x.shape[:-1], numbers.shape[0])
