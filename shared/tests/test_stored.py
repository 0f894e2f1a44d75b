"""Cells that need what is not there: they show what the notebook's file has for them, and nothing else changes."""

import os

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output

from shared import stored
from shared.course import ROOT, notebooks, read_notebook
from shared.notebooks import text_of
from shared.tests.limits import HANGS

SETUP = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom shared.stored import show_stored_without\n"


def run(folder, found):
    """The outputs of the cells of a small notebook, run in its folder with what the second cell needs, or without."""
    picture = new_output("display_data", data={"text/html": "<b>bold</b>", "text/plain": "bold"})
    cells = [new_code_cell(f'{SETUP}show_stored_without({found!r}, "# needs it")'),
             new_code_cell("# needs it\nprint('now', 1 + 1)",
                           outputs=[new_output("stream", name="stdout", text="then 2\n"), picture]),
             new_code_cell("x = 5\nprint(x)\n# needs it, but not in the first line"),
             new_code_cell("# needs it\nprint('never stored')"),
             new_code_cell("# needs that\nprint('something else')")]  # fmt: skip
    book = new_notebook(cells=cells)
    nbformat.write(book, folder / "lesson.ipynb")
    NotebookClient(book, timeout=HANGS, resources={"metadata": {"path": folder}}).execute(env=dict(os.environ))
    return [["".join(output.get("text", output.get("data", {}).get("text/html", ""))) for output in cell.outputs]
            for cell in book.cells[1:]]  # fmt: skip


def test_what_is_missing_is_shown_as_stored(tmp_path):
    (tmp_path / "another.ipynb").write_text("no notebook", encoding="utf-8")
    shown = run(tmp_path, None)
    assert shown[0] == ["then 2\n", "<b>bold</b>"] and shown[1] == ["5\n"]
    assert shown[2][0].startswith("This cell was not run: what it needs is not here")
    assert shown[3] == ["something else\n"]


def test_what_is_there_is_used(tmp_path):
    shown = run(tmp_path, "a path")
    assert shown == [["now 2\n"], ["5\n"], ["never stored\n"], ["something else\n"]]


def test_outside_a_notebook_nothing_happens(capsys):
    stored.show_stored_without(None, "# needs nothing")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_cells_that_may_not_run_have_something_to_show(path):
    marked = [cell for cell in read_notebook(path)["cells"] if text_of(cell["source"]).startswith("# needs ")]
    for cell in marked:
        assert cell["outputs"], text_of(cell["source"])[:200]
    announced = {text_of(cell["source"]).splitlines()[0] for cell in marked}
    whole = "".join(text_of(cell["source"]) for cell in read_notebook(path)["cells"])
    for marker in announced:
        assert f'"{marker}")' in whole, f"{marker} is not announced by show_stored_without"
