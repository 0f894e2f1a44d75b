"""The table of a benchmark: rows as they come, and a CSV file with the circumstances."""

import csv
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COLUMNS = ("part", "what", "value", "unit", "beside", "ratio", "of the limit")
PACKAGES = ("torch", "transformers", "numpy", "tiktoken", "llm-course")


def alternate(ways, runs, warm=1):
    """Call each function in turn, round after round; the first ``warm`` rounds are left out.

    Returns:
        name -> the seconds of each round that counts.
    """
    seconds = {name: [] for name in ways}
    for number in range(warm + runs):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            took = time.perf_counter() - begin
            if number >= warm:
                seconds[name].append(took)
    return seconds


class Table:
    """Rows of a benchmark; each is printed when it is added."""

    def __init__(self):
        self.rows = []
        print(f"{machine()}, {date()}")

    def add(self, part, what, value, unit, beside="", ratio=None, of_limit=None):
        """Add a row.

        Args:
            value: the measurement, in ``unit``.
            beside: what ``ratio`` compares with; below 1 is less than that.
            of_limit: share of what the machine can do, from 0 to 1.
        """
        self.rows.append((part, what, value, unit, beside, ratio, of_limit))
        compared = f"  {ratio:5.2f} x {beside}" if ratio is not None else ""
        share = f"  {of_limit:4.0%} of the limit" if of_limit is not None else ""
        print(f"{part:9} {what:44} {value:10.4g} {unit:9}{compared}{share}", flush=True)

    def add_times(self, part, seconds, beside=None, unit="s", scale=1.0, limit=None):
        """Rows for what ``alternate`` returns: medians times ``scale``, ratios to the way ``beside``.

        Args:
            limit: the least seconds that this machine would need, for the share; one number, or name -> seconds.
        """
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        for name, median in medians.items():
            ratio = median / medians[beside] if beside in medians and name != beside else None
            least = limit.get(name) if isinstance(limit, dict) else limit
            self.add(part, name, scale * median, unit, beside or "", ratio, least / median if least else None)
        return medians

    def write(self, path):
        """Write the table as CSV, the circumstances in its first lines, which begin with #."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(f"# {machine()}\n# {date()}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(self.rows)


def date():
    """This day, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def machine():
    """Processor, cores, threads, device and versions, in a line."""
    import torch

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    return (f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
            f"{versions}")  # fmt: skip


def processor():
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
