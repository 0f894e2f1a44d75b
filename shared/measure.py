"""How much memory a piece of work takes."""

import gc
import threading

import psutil


def peak_memory(function, every=0.002):
    """Run ``function()`` and watch how far the memory of this process rises meanwhile.

    What is measured is resident memory, which includes pages of mapped files that were touched; the
    operating system can drop those again at any time. Memory that the process has freed but still
    holds can be used without a rise, so the figure is a lower bound: run the smaller job first.

    Args:
        function: what to run, without arguments.
        every: seconds between two looks.

    Returns:
        What ``function`` returned, and the highest rise above the starting level in MB (10^6 bytes).
    """
    gc.collect()
    process, done = psutil.Process(), threading.Event()
    start = highest = process.memory_info().rss

    def watch():
        nonlocal highest
        while not done.wait(every):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = function()
        highest = max(highest, process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    return result, (highest - start) / 1e6
