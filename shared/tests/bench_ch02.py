"""Measures chapter 2's tokenizer and data sets on a large text, against tiktoken and against each other.

    python3 -m shared.tests.bench_ch02 FOLDER_OF_TXT_FILES

Each data set is built in a process of its own, so that its peak memory is its own. Times are medians of five
alternating runs in one process, except for the data sets, which are built once each.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from shared import token_files
from shared.assets import gpt2_vocabulary, use_offline_vocabulary
from shared.carry import load_chapter

MEGABYTE = 10**6
LENGTH = 256  # max_length and stride of the data sets


def resident_mb():
    """Memory that this process holds now, in MB."""
    return psutil.Process().memory_info().rss / MEGABYTE


def with_peak(function):
    """Result, seconds, and the highest resident memory meanwhile in MB.

    On Linux the kernel keeps the highest value, and it can be reset. Elsewhere a thread looks every two
    milliseconds, which misses peaks during calls that do not let other threads run: a lower bound.
    """
    if _reset_peak():
        seconds, result = timed(function)
        return result, seconds, _kernels_peak_mb()
    done, highest = threading.Event(), [resident_mb()]

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds, result = timed(function)
    finally:
        done.set()
        watcher.join()
    return result, seconds, max(highest[0], resident_mb())


def _reset_peak():
    """Make Linux forget the highest resident memory so far; False where that is not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _kernels_peak_mb():
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / MEGABYTE


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def build(kind, text_file, token_file):
    """Child process: build one data set, print seconds, memory before and at the peak, and a checksum of its rows."""
    ch02, tokenizer = load_chapter("ch02_text_data"), _tiktoken()
    tokenizer.encode("warm up")
    before = resident_mb()

    def in_memory():
        return ch02.GPTDatasetV1(Path(text_file).read_text(encoding="utf-8"), tokenizer, LENGTH, LENGTH)

    def in_file():
        token_files.write_token_file(token_files.read_chunks(text_file), token_file, tokenizer)
        return token_files.TokenFileDataset(token_file, LENGTH, LENGTH)

    dataset, seconds, peak = with_peak(in_memory if kind == "memory" else in_file)
    # A sum weighted by place: equal for equal items in equal order.
    weights = torch.arange(1, LENGTH + 1)
    sums = [(n + 1) * int((x * weights).sum() + 3 * (y * weights).sum()) for n, (x, y) in enumerate(dataset)]
    checksum = sum(sums) % 10**12
    print(json.dumps({"rows": len(dataset), "seconds": seconds, "above": peak - before, "sum": checksum}))


def _tiktoken():
    import tiktoken

    use_offline_vocabulary()
    return tiktoken.get_encoding("gpt2")


def tokenizers(text):
    """Encoding 1 MB of text: ours with an empty and with a full memory, and tiktoken."""
    ch02, theirs = load_chapter("ch02_text_data"), _tiktoken()
    warm = ch02.BytePairTokenizer(*gpt2_vocabulary())
    warm.encode(text)
    times = {"tiktoken": [], "ours, new words": [], "ours, known words": []}
    for _ in range(5):
        cold = ch02.BytePairTokenizer(*gpt2_vocabulary())
        for name, encode in zip(times, [theirs.encode, cold.encode, warm.encode]):
            seconds, ids = timed(encode, text)
            times[name].append(seconds)
    assert ids == theirs.encode(text)
    reference = statistics.median(times["tiktoken"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        megabytes = len(text.encode()) / MEGABYTE
        print(f"{name:18} {median:6.3f} s for {megabytes:.2f} MB, {median / reference:5.2f} x tiktoken")


def main(folder):
    """Run all measurements on the .txt files in ``folder``, the first 50 MB of them (repeated if there are fewer)."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.txt"))]
    if not texts:
        sys.exit(f"there is no .txt file in {folder}")
    tokenizers("\n".join(texts)[:MEGABYTE])
    with tempfile.TemporaryDirectory() as scratch:
        text_file, token_file = Path(scratch) / "all.txt", Path(scratch) / "all.tokens"
        with open(text_file, "w", encoding="utf-8", newline="") as file:
            while file.tell() < 50 * MEGABYTE:
                file.writelines(text + "\n<|endoftext|>\n" for text in texts)
        with open(text_file, "r+b") as file:
            file.truncate(50 * MEGABYTE)
        _end_at_a_character(text_file)
        results = {}
        for kind in ("memory", "file"):
            child = [sys.executable, "-m", "shared.tests.bench_ch02", "--build"]
            command = [*child, kind, str(text_file), str(token_file)]
            results[kind] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for kind, r in results.items():
            print(f"{kind:7} {r['rows']} rows in {r['seconds']:.1f} s, at most {r['above']:.0f} MB above the start")
        items = {(r["rows"], r["sum"]) for r in results.values()}
        print("items:", "the same" if len(items) == 1 else "DIFFERENT")


def _end_at_a_character(path):
    """Drop the bytes of a character that was cut at the end of the file."""
    data = path.read_bytes()
    path.write_bytes(data[:-4] + data[-4:].decode("utf-8", errors="ignore").encode())


if __name__ == "__main__":
    if sys.argv[1] == "--build":
        build(*sys.argv[2:])
    else:
        main(sys.argv[1])
