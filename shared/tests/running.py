"""Running a whole notebook in the tests: each cell twice, on the real texts where they are at hand."""

import copy
import json
import os

from shared import figures
from shared import notebooks as upkeep
from shared.assets import find
from shared.tests.limits import HANGS


def run_notebook(path, **settings):
    """Execute a copy of a notebook's code, each cell twice, in its own folder at small scale; returns the copy."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    book.cells = [copy.deepcopy(one) for one in book.cells if one.cell_type == "code" for _ in range(2)]
    for place, cell in enumerate(book.cells):
        cell.id = f"twice-{place}"
    env = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    env |= {**upkeep.QUIET, "COURSE_SCALE": "small", "COURSE_OFFLINE": "1", **settings}
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=HANGS, kernel_name="python3", resources=where).execute(env=env)
    return book


def check_that_cells_may_be_run_twice(path, record):
    """Re-running a cell must not spoil what follows; the notebook's own checks are the judge.

    Where the real texts are, they are read, and the known figures for them compared; nbval reads the samples. Each
    figure, computed twice, must be the same both times: labels, splits, what learns, accuracies.
    """
    real = find("the-verdict.txt") is not None
    data = {"COURSE_DATA": os.environ.get("COURSE_DATA", "")} if real else {}
    book = run_notebook(path, **{figures.RECORD: str(record), figures.COMPARE: "1"}, **data)
    printed = ["".join(output.get("text", "")) for cell in book.cells for output in cell.get("outputs", [])]
    assert not real or not any("own sample" in text for text in printed)
    seen = {}
    for line in record.read_text(encoding="utf-8").splitlines() if "figures.match(" in str(book) else []:
        name, circumstance, value = json.loads(line)
        assert seen.setdefault((name, circumstance), value) == value, name
