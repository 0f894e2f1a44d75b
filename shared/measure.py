"""How much memory a piece of work takes."""

import gc
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
