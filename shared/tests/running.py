"""Running a whole notebook in the tests: each cell twice, on the real texts where they are at hand."""

import copy
import json
import os
import subprocess
from pathlib import Path

from shared import figures
from shared import notebooks as upkeep
from shared.assets import cache_folder, find
from shared.course import ROOT
from shared.tests.limits import HANGS

OLDER = "colab-packages"  # in the cache: other versions of some packages, put there by .ci/run


def run_notebook(path, folder=None, **settings):
    """Execute a copy of a notebook's code, each cell twice, at small scale; returns the copy.

    Args:
        folder: where the kernel begins; by default the notebook's own folder.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    book.cells = [copy.deepcopy(one) for one in book.cells if one.cell_type == "code" for _ in range(2)]
    for place, cell in enumerate(book.cells):
        cell.id = f"twice-{place}"
    env = {name: value for name, value in os.environ.items() if name != "COURSE_DATA"}
    env |= {**upkeep.QUIET, "COURSE_SCALE": "small", "COURSE_OFFLINE": "1", **settings}
    where = {"metadata": {"path": str(folder or path.parent)}}
    NotebookClient(book, timeout=HANGS, kernel_name="python3", resources=where).execute(env=env)
    return book


def bare_repository(folder):
    """A bare git repository with the course as it is now, uncommitted changes included; None without git."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True)  # fmt: skip
    if listed.returncode or not listed.stdout:
        return None
    work, bare = folder / "work", folder / "course.git"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes((ROOT / name).read_bytes())
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "course"], ["clone", "-q", "--bare", ".", bare]):
        subprocess.run([*git, *command], cwd=work, check=True)
    return bare


def as_on_colab(folder, repository):
    """Settings and an empty folder in which a notebook finds itself as on Colab: alone, with its package in name only.

    Where .ci/run has put them, ipywidgets 7 and other versions of NumPy and pandas come before those of the course.
    """
    begin, empty = folder / "begin", folder / "content"
    (begin / "google" / "colab").mkdir(parents=True)
    empty.mkdir()
    (begin / "google" / "colab" / "__init__.py").touch()
    # Python runs this before anything else.
    (begin / "sitecustomize.py").write_text("import google.colab\n", encoding="utf-8")
    first = [str(begin), *([str(older)] if (older := Path(cache_folder()) / OLDER).is_dir() else [])]
    return empty, {"COURSE_ADDRESS": repository.as_uri(), "PYTHONPATH": os.pathsep.join(first)}


def check_that_cells_may_be_run_twice(path, record, folder=None, **settings):
    """Re-running a cell must not spoil what follows; the notebook's own checks are the judge.

    Where the real texts are, they are read, and the known figures for them compared; nbval reads the samples. Each
    figure, computed twice, must be the same both times: labels, splits, what learns, accuracies.
    """
    real = find("the-verdict.txt") is not None
    if real and os.environ.get("COURSE_DATA"):
        settings["COURSE_DATA"] = str((ROOT / os.environ["COURSE_DATA"]).resolve())
    book = run_notebook(path, folder, **{figures.RECORD: str(record), figures.COMPARE: "1"}, **settings)
    printed = ["".join(output.get("text", "")) for cell in book.cells for output in cell.get("outputs", [])]
    assert not real or not any("own sample" in text for text in printed)
    seen = {}
    for line in record.read_text(encoding="utf-8").splitlines() if "figures.match(" in str(book) else []:
        name, circumstance, value = json.loads(line)
        assert seen.setdefault((name, circumstance), value) == value, name
    return printed
