"""``python3 -m shared record [FILE] [--name NAME]``: one page of what you have solved."""

import sys
from pathlib import Path

from shared.course import FileProblem, count_of, write_file

USAGE = "usage: python3 -m shared record [FILE.html] [--name NAME]"


def main(argv):
    """Write the page; returns the exit status."""
    from shared.records import page
    from shared.study import progress

    name, files = "", []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--name" and words:
            name = " ".join(words.pop(0).split())
        elif word.startswith("-"):
            print(USAGE, file=sys.stderr)
            return 2
        else:
            files.append(word)
    if len(files) > 1:
        print(USAGE, file=sys.stderr)
        return 2
    path = Path(files[0] if files else "record.html").resolve()
    try:
        record = page.made_from(name, progress.load())
        write_file(path, page.as_html(record).encode())
    except FileProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    outcomes = [entry["outcome"] for entry in record["exercises"]]
    print(f"{path}: {count_of(len(outcomes), 'solution')}, {outcomes.count('right')} of them right by your last check")
    if progress.path() is None:
        print("COURSE_PROGRESS is off, so nothing is known of your checks and answers; the solutions are there.")
    elif "not checked" in outcomes:
        print(
            "Not checked yet: run the cells with check(...) of "
            + ", ".join(entry["exercise"] for entry in record["exercises"] if entry["outcome"] == "not checked")
        )
    return 0
