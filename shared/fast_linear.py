"""The products of linear layers by oneDNN, the second library for matrix products that comes with PyTorch.

On the CPU PyTorch hands float32 products to MKL. oneDNN computes the same sums in another order. On an AMD processor
with AVX-512 it was measured to be twice as fast with many rows, and two to three times with a single one, the kind of
product that writing a text consists of. It also stores weights in the order in which it reads them ("packed").
``python3 -m shared bench`` measures both, and appendix D, section D.12, reads the result.

Where PyTorch has no oneDNN (Apple's processors), on a GPU, in other precisions and while compiling, everything here
leaves PyTorch's own product in place.
"""

from contextlib import contextmanager
from functools import partial

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
    """Whether this PyTorch has oneDNN's linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(weight, bias, x):
    """x (..., n_in) times weight (n_out, n_in), plus bias (n_out,) or None; the weight may be packed."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Product(torch.autograd.Function):
    """product() with its gradients."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(weight, bias, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])                                     # (rows, n_out)
        return (product(weight.T, None, gradient) if for_x else None,
                product(x.reshape(-1, x.shape[-1]).T, None, rows.T) if for_weight else None,
                rows.sum(dim=0) if for_bias else None)  # fmt: skip


class FastLinear(nn.Linear):
    """nn.Linear whose larger products, and their gradients, are oneDNN's; the same up to rounding."""

    def forward(self, x):
        suits = (x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
                 and x.numel() * self.out_features >= WORTH_A_CALL
                 and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())  # fmt: skip
        return Product.apply(x, self.weight, self.bias) if suits else super().forward(x)


def with_fast_linears(model):
    """Let the linear layers of a model compute with oneDNN, in training too; returns the model.

    Parameters, names and results stay as they are, the results up to rounding.
    """
    if available():
        for part in model.modules():
            if type(part) is nn.Linear:
                part.__class__ = FastLinear    # the same object with the same weights; only forward is another
    return model


@contextmanager
def packed_weights(model, n_passes=WORTH_PACKING):
    """A block in which the linear layers of a model read packed weights; for reading or writing, not for training.

    Args:
        n_passes: how often the model will be called. Where packing would not pay, or there is no memory for a second
            copy of the weights, nothing is packed.
    """
    layers = [part for part in model.modules() if type(part) in (nn.Linear, FastLinear) and suits_packing(part)]
    n_bytes = sum(4 * layer.weight.numel() for layer in layers)
    if not available() or n_passes < WORTH_PACKING or 2 * n_bytes > psutil.virtual_memory().available:
        layers = []
    for layer in layers:
        # Made for eight rows: measured, this order is the fastest for a single one too.
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), 8)
        layer.forward = partial(product, packed, layer.bias)    # hides the class's, until it is deleted below
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def suits_packing(layer):
    """Whether a linear layer is one whose packed weights read faster: large, float32, on the CPU, not packed yet."""
    weight = layer.weight
    return (type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32
            and weight.numel() >= 2**16 and "forward" not in vars(layer))  # fmt: skip


def eight_bit_product(x, numbers, scales):
    """x (..., n_in) times a matrix of 8-bit numbers (n_out, n_in), the result times the scale of each row (n_out,).

    A few rows on the CPU are computed in bfloat16, without turning the numbers back into floats first; more rows in
    the precision of x.
    """
    rows = x.reshape(-1, x.shape[-1])
    # PyTorch's kernel reads whole blocks, and does not ask whether a matrix is made of such.
    whole_blocks = numbers.shape[0] % 32 == numbers.shape[1] % 32 == 0
    if x.device.type == "cpu" and whole_blocks and len(rows) <= MOST_ROWS_IN_BFLOAT16:
        result = torch._weight_int8pack_mm(rows.bfloat16(), numbers, scales.bfloat16()).to(x.dtype)
    else:
        result = rows @ (numbers * scales[:, None]).to(x.dtype).T
    return result.view(*x.shape[:-1], -1)
