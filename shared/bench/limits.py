"""What this machine can do: how fast it multiplies matrices in the model's shapes, and how fast it reads memory."""

import statistics
import time
from functools import partial

import torch

from shared import fast_linear

# (numbers in, numbers out) of the 124M model's layers, with how often each occurs.
LAYERS = {(768, 768): 48, (768, 3_072): 12, (3_072, 768): 12, (768, 50_257): 1}


def seconds_of(function, runs):
    """Median seconds of a function; one run before does not count."""
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def onednn_product(left, right):
    """left @ right by oneDNN."""
    return fast_linear.product(right.T, None, left)


def libraries(device, dtype):
    """name -> product of two matrices, for each library that PyTorch has for them."""
    found = {"PyTorch's": torch.matmul}
    if device.type == "cpu" and dtype == torch.float32 and fast_linear.available():
        found["oneDNN's"] = onednn_product
    return found


def matrix_products(n_rows, device, dtype=torch.float32, runs=5, product=torch.matmul):
    """Operations a second of the 124M model's matrix products, forward and backward, for so many rows."""
    operations = seconds = 0.0
    for (n_in, n_out), count in LAYERS.items():
        x, weight = (torch.randn(shape, device=device, dtype=dtype) for shape in ((n_rows, n_in), (n_out, n_in)))
        gradient = torch.randn(n_rows, n_out, device=device, dtype=dtype)
        for left, right in ((x, weight.T), (gradient, weight), (gradient.T, x)):
            seconds += count * seconds_of(partial(product, left, right), runs)
            operations += count * 2 * n_rows * n_in * n_out
    return operations / seconds


def memory_reading(device, runs=5):
    """Bytes a second that are read from memory, by adding up 400 MB of numbers."""
    numbers = torch.ones(100_000_000, device=device)
    return 4 * numbers.numel() / seconds_of(numbers.sum, runs)
