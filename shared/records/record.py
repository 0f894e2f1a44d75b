"""``python3 -m shared record [FILE.html] [--name NAME]``: one page of what you have solved."""

import argparse
import sys
from pathlib import Path

from shared.course import FileProblem, count_of, print_any_character, write_file


def main(argv):
    """Write the page; returns the exit status."""
    from shared.records import page
    from shared.study import progress

    print_any_character()
    parser = argparse.ArgumentParser(prog="python3 -m shared record", description=__doc__.split(": ", 1)[1])
    parser.add_argument("file", nargs="?", type=Path, default=Path("record.html"), help="the page (record.html)")
    parser.add_argument("--name", default="", help="your name, as it shall stand there")
    parser.add_argument("--start", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)  # where the user stands
    options = parser.parse_args(argv)
    path, name = options.start / options.file, " ".join(options.name.split())
    if path.suffix.lower() != ".html":
        print(f"{path} is not the name of a page; give one that ends in .html", file=sys.stderr)
        return 2
    try:
        if path.exists():
            page.read(path)  # an older record may be written over, and nothing else
        record = page.made_from(name, progress.load())
        write_file(path, page.as_html(record).encode())
    except FileProblem as problem:
        print(f"{problem}\nNothing was written." if path.exists() else problem, file=sys.stderr)
        return 1
    outcomes = [entry["outcome"] for entry in record["exercises"]]
    print(f"{path}: {count_of(len(outcomes), 'solution')}, {outcomes.count('right')} of them right by your last check")
    if progress.path() is None:
        print("COURSE_PROGRESS is off, so nothing is known of your checks and answers; the solutions are there.")
    elif "not checked" in outcomes:
        print("Not checked yet: run the cells with check(...) of "
              + ", ".join(entry["exercise"] for entry in record["exercises"] if entry["outcome"] == "not checked"))
    return 0
