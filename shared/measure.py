"""How much memory a piece of work takes, for Python's objects and for PyTorch's tensors."""

import gc
import os
import tracemalloc


def peak_memory(function):
    """Run ``function()`` and measure the most memory that its Python objects and NumPy arrays took at one time.

    Python counts these allocations itself, so the figure does not depend on what ran before. What PyTorch
    and other compiled code allocate on their own is not in it. Counting makes the work slower.

    Args:
        function: what to run, without arguments.

    Returns:
        What ``function`` returned, and the peak in MB (10^6 bytes) above what was there before.
    """
    gc.collect()
    was_running = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = function()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not was_running:
            tracemalloc.stop()
    return result, (peak - before) / 1e6


def peak_tensor_memory(function):
    """Run ``function()`` and add up what its tensors take on the device, at the fullest moment.

    On the CPU PyTorch's profiler reports each tensor that is made or dropped, so the figure is exact and does not
    depend on the machine; on a GPU the allocator keeps count.

    Returns:
        What ``function`` returned, and the peak in MB (10^6 bytes) above what was there before.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")     # its messages would land in the notebook
    import torch
    from torch.profiler import ProfilerActivity, profile

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        torch.cuda.synchronize()
        return result, (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return result, peak / 1e6
