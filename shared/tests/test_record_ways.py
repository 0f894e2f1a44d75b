"""The ways in which learners write a solution: each is found by its check, with all that it needs, and is right."""

import json

import pytest

from shared import exercises
from shared.carry import load_chapter
from shared.course import chapter_notebook, read_notebook
from shared.records.solutions import solutions_in

SOLUTION = """\
def softmax_rows(scores):
    shifted = scores - scores.amax(dim=-1, keepdim=True)
    e = shifted.exp()
    return e / e.sum(dim=-1, keepdim=True)"""
HELPER = "def mx(s):\n    return s.amax(dim=-1, keepdim=True)"
HELPED = SOLUTION.replace("scores.amax(dim=-1, keepdim=True)", "mx(scores)")
CHECK = 'check("3.4", softmax_rows)'
STUB = 'raise NotImplementedError("exercise 3.4")'
SELF = "def softmax_rows(s):\n    return s"

# name -> (cells before, the exercise's cell or None, the check's cell or None, cells after)
WAYS = {
    "plain": ([], SOLUTION, None, []),
    "stub commented out above": ([], f"# {STUB}\n{SOLUTION}", None, []),
    "stub left behind the return": ([], f"{SOLUTION}\n    {STUB}", None, []),
    "stub quoted in a docstring": ([], SOLUTION.replace(":\n", f":\n    '''{STUB}'''\n", 1), None, []),
    "in a cell of its own": ([], None, f"{SOLUTION}\n{CHECK}", []),
    "under another name": ([], SOLUTION.replace("softmax_rows", "mine"), 'check("3.4", mine)', []),
    "below, with a second check": ([], None, None, [f"{SOLUTION}\n{CHECK}"]),
    "corrected below": ([], SELF, None, [SOLUTION, CHECK]),
    "cells elsewhere that Python refuses": (
        ["def count():\n    n = n + 1\n    global n", "def f(a, a): pass", "def (:"], SOLUTION, None, []),
    "two statements in a line": (['a = """x\n"""; D = -1'], SOLUTION.replace("dim=-1", "dim=D"), None, []),
    "a name bound from itself": (["D = 0\nD -= 1"], SOLUTION.replace("dim=-1", "dim=D"), None, []),
    "a list that grows": (["D = []\nD.append(-1)"], SOLUTION.replace("dim=-1", "dim=D[0]"), None, []),
    "a dictionary that is filled": (["D = {}", "D['d'] = -1"], SOLUTION.replace("dim=-1", "dim=D['d']"), None, []),
    "a config made from itself": (["c = {'d': -1}\nc = dict(c)"], SOLUTION.replace("dim=-1", "dim=c['d']"), None, []),
    "a global counter": ([], "n = 0\n" + SOLUTION.replace(":\n", ":\n    global n\n    n += 1\n", 1), None, []),
    "a local of the helper's name": (
        [HELPER, "def other():\n    mx = 5\nq = [mx for mx in [1]]\nclass K:\n    def mx(self): pass"],
        HELPED, None, []),
    "timed": ([], f"%%time\n{SOLUTION}", f"%time {CHECK}", []),
    "a question to IPython": ([], f"{SOLUTION}\nsoftmax_rows?", f"check?\n{CHECK}", []),
    "check under another name": ([], SOLUTION, 'from shared.exercises import check as c\nc("3.4", softmax_rows)', []),
    "check by its module": ([], SOLUTION, f"import shared.exercises as ex\nprint(ex.{CHECK})", []),
    "tried out in the cell": (
        [], f"{SOLUTION}\ndisplay(softmax_rows(X))\nassert 1 == 2\nfiles = !ls\ninput()", None, []),
    "guarded": ([], f"if __name__ == '__main__':\n    pass\n{SOLUTION}", None, []),
    "from the future": ([], "from __future__ import annotations\nimport math\n"
                        + SOLUTION.replace("(scores)", "(scores: Unknown)"), None, []),
    "a helper with a builtin's name": ([HELPER.replace("mx(", "max(")], HELPED.replace("mx(", "max("), None, []),
    "everything imported": (["from torch import *"], SOLUTION.replace("shifted.exp()", "exp(shifted)"), None, []),
    "indented": ([], "\n".join(f"    {line}" for line in SOLUTION.split("\n")), None, []),
    "a line that looks like a magic": ([], f"{SOLUTION}\nz = (5\n% 2)", None, []),
    "a helper below the check": ([], HELPED, None, [HELPER]),
    "decorated": ([], f"def twice(f):\n    return lambda *a: f(*a)\n@twice\n{SOLUTION}", None, []),
    "a lambda": (
        [], "ex = lambda s: (s - s.amax(-1, True)).exp()\nsoftmax_rows = lambda s: ex(s) / ex(s).sum(-1, True)",
        None, []),
    "an object": ([], "class S:\n    def __call__(self, s):\n        e = (s - s.amax(-1, True)).exp()\n"
                  "        return e / e.sum(-1, True)\nsoftmax_rows = S()", None, []),
    "checks at the end": ([], SOLUTION, "pass", [f"print(1)\n{CHECK}"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def chapter():
    return load_chapter("ch03_attention")


def notebook_with(path, way, tags=True):
    """Chapter 3's notebook, written as a learner did it."""
    before, written, check, after = way
    book = read_notebook(chapter_notebook("ch03_attention"))
    cells = book["cells"]
    place = next(i for i, cell in enumerate(cells) if STUB in "".join(cell["source"]))
    asked = next(i for i, cell in enumerate(cells) if CHECK in "".join(cell["source"]))
    if written is not None:
        cells[place]["source"] = written
    if check is not None:
        cells[asked]["source"] = check

    def new(sources):
        return [{"cell_type": "code", "metadata": {}, "source": source, "outputs": []} for source in sources]

    cells[asked + 1 : asked + 1] = new(after)
    cells[place:place] = new(before)
    for cell in cells if not tags else ():
        cell["metadata"] = {}
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_found_and_right(chapter, tmp_path, way):
    (found,) = solutions_in(notebook_with(tmp_path / "ch03.ipynb", WAYS[way]))
    assert found["exercise"] == "3.4"
    names = {**chapter.__dict__, "__name__": "__main__"}
    exec(compile("\n\n".join([*found["needs"], found["solution"]]), "<ipykernel solution>", "exec"), names)
    verdict = exercises.judge("3.4", *[eval(attempt, names) for attempt in found["attempts"]])
    assert verdict.outcome == "right", (verdict, found)


def test_tags_may_be_lost(tmp_path):
    assert solutions_in(notebook_with(tmp_path / "a.ipynb", ([], None, None, []), tags=False)) == []
    (found,) = solutions_in(notebook_with(tmp_path / "b.ipynb", WAYS["plain"], tags=False))
    assert found["solution"] == SOLUTION
