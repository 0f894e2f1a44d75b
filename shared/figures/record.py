"""Runs notebooks and compares, or writes anew, the figures that they compute.

    python3 -m shared figures [NOTEBOOK ...]           what a run gives that the table does not hold
    python3 -m shared figures --write [NOTEBOOK ...]   the same, and write it into the table

Without paths: every notebook that has figures; only then are figures removed that no run computes any more. The run
uses the scale and the data of the environment: COURSE_SCALE, COURSE_DATA and so on. Figures of other circumstances stay
as they are. The notebooks themselves are not changed.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from shared import figures
from shared.course import ROOT, FileProblem, notebooks, print_any_character, read_notebook, write_file
from shared.notebooks import execute


def recorded(path):
    """[(name, circumstance, value), ...] of a run of a notebook, in the order in which they were computed."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "figures.jsonl"
        record.touch()
        before = os.environ.get(figures.RECORD)
        os.environ[figures.RECORD] = str(record)
        try:
            execute(path)
        finally:
            os.environ.pop(figures.RECORD)
            if before is not None:
                os.environ[figures.RECORD] = before
        return [tuple(json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def changes(table, found):
    """Lines that say what of ``found`` a chapter's table does not hold, and what it holds that was not found."""
    lines, seen = [], {}
    for name, circumstance, value in found:
        if seen.setdefault((name, circumstance), value) != value:
            lines.append(f"{name} ({circumstance}): two values in one run, {seen[name, circumstance]} and {value}")
        known = table.get(name, {})
        if circumstance not in known:
            lines.append(f"{name} ({circumstance}): new, {value}")
        elif known[circumstance] != value:
            lines.append(f"{name} ({circumstance}): {known[circumstance]} becomes {value}")
    ran = {circumstance for _, circumstance, _ in found}
    lines += [f"{name} ({circumstance}): in the table, but not in this run" for name, known in table.items()
              for circumstance in known if circumstance in ran and (name, circumstance) not in seen]  # fmt: skip
    return lines


def updated(table, found, complete=True):
    """The table with what was found. With ``complete``, what such a run no longer computes is left out."""
    ran, seen = {circumstance for _, circumstance, _ in found}, {(name, where) for name, where, _ in found}
    new = {name: {where: value for where, value in known.items()
                  if not complete or where not in ran or (name, where) in seen}
           for name, known in table.items()}  # fmt: skip
    for name, circumstance, value in found:
        new.setdefault(name, {})[circumstance] = value
    return {name: dict(sorted(known.items())) for name, known in sorted(new.items()) if known}


def as_text(table):
    """The file's text: a line for each value, so that a change shows as one line."""
    names = []
    for name, known in table.items():
        values = ",\n".join(f"  {json.dumps(where)}: {json.dumps(value, ensure_ascii=False)}"
                            for where, value in known.items())  # fmt: skip
        names.append(f" {json.dumps(name)}: {{\n{values}\n }}")
    return "{\n" + ",\n".join(names) + "\n}\n"


def main(argv):
    """Command line, see the module's docstring; exit status 1 if there is a difference (and it is not written)."""
    print_any_character()
    options = [word for word in argv if word.startswith("-")]
    if set(options) - {"--write"}:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    paths = [Path(word).resolve() for word in argv if not word.startswith("-")]
    with_figures = [path for path in notebooks() if "figures.match(" in json.dumps(read_notebook(path)["cells"])]
    by_chapter, failed = {}, False
    for path in paths or with_figures:
        print(f"running {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", flush=True)
        try:
            for entry in recorded(path):
                by_chapter.setdefault(figures.chapter_of(entry[0]), []).append(entry)
        except FileProblem as problem:
            print(problem)
            failed = True
    if failed and "--write" in options:
        print("Nothing is written: a notebook did not run to its end.")
        return 1
    differ = False
    for chapter, found in by_chapter.items():
        lines = changes(figures.table(chapter), found)
        print("".join(f"{line}\n" for line in lines), end="")
        differ = differ or bool(lines)
        if lines and "--write" in options:
            text = as_text(updated(figures.table(chapter), found, complete=not paths))
            write_file(figures.FOLDER / f"{chapter}.json", text.encode())
            print(f"wrote shared/figures/{chapter}.json")
    if not differ and not failed:
        print("every figure is as the table has it")
    return 1 if failed or (differ and "--write" not in options) else 0
