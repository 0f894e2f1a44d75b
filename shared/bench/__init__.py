"""Speed and cost of the course's code beside what people would use instead: ``python3 -m shared bench [PART ...]``.

    train      a training step of the 124M model: step by step, the course's, transformers'; in bfloat16 too
    generate   200 tokens of it: plain, cached, transformers'; one text and eight
    load       GPT-2's layout and SmolLM2: seconds, and the most memory, beside transformers
    data       tokenizing texts of 1, 10 and 60 MB, in memory and in a file; also without spaces between words
    tune       a step of fine-tuning: everything, the last block, LoRA
    start      importing the package, the first cell of each chapter; with --notebooks each notebook, small or full
    widgets    from a key on a slider to the new picture, in a browser (needs Chromium)

Without a part: all of them. ``--quick`` makes everything smaller, to see whether it runs. ``--csv FILE`` keeps the
table, with machine, versions and date. All ways of doing a thing run in turn in one process, a first round is left out,
and the median counts; each has its ratio to another, and where there is one, its share of what this machine can do.
"""

import argparse
import sys
from pathlib import Path

from shared.bench import parts
from shared.bench.table import Table


def main(argv):
    """Print the table, row by row as they come; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m shared bench", description=__doc__.splitlines()[0],
                                     epilog="parts: " + ", ".join(parts.PARTS))  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--quick", action="store_true", help="everything smaller, to see whether it runs")
    parser.add_argument("--csv", type=Path, help="where to keep the table")
    parser.add_argument("--runs", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument("--all-sizes", action="store_true", help="with load: the two largest too, which need 13 GB")
    parser.add_argument("--notebooks", choices=["small", "full"], nargs="?", const="small",
                        help="with start: each notebook from top to bottom, at this scale")
    parser.add_argument("--start", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)  # where the user stands
    options = parser.parse_args(argv)
    unknown = set(options.parts) - set(parts.PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(parts.PARTS)}")
    if options.runs < 1:
        parser.error(f"--runs must be 1 or more; it is {options.runs}")
    table = Table()
    status = 0
    try:
        for name in options.parts or parts.PARTS:
            parts.PARTS[name](table, options)
    finally:    # what has been measured is kept, whatever stops the rest
        if options.csv:
            status = keep(table, options.start / options.csv)
    return status


def keep(table, path):
    """Write the table; 0, or 1 and a line if it cannot be written."""
    try:
        table.write(path)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror}); choose another place", file=sys.stderr)
        return 1
    print(f"kept in {path}")
    return 0
