"""The chapters' notebooks, each cell twice, and each alone in an empty folder, as on Colab.

A file of its own, so that two workers share the work. nbval runs the same notebooks in the course's folders.
"""

import pytest

from shared.course import ROOT, notebooks
from shared.tests.running import as_on_colab, bare_repository, check_that_cells_may_be_run_twice

BOOKS = [path for path in notebooks() if path.stem != "solutions"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return bare_repository(tmp_path_factory.mktemp("repository"))


@pytest.mark.parametrize("path", BOOKS, ids=[str(path.relative_to(ROOT)) for path in BOOKS])
def test_cells_may_be_run_twice_and_a_notebook_alone_on_colab(path, repository, tmp_path):
    """The setup cell fetches the course; a line says whether there is a GPU; all cells run, each twice."""
    if repository is None:    # this copy of the course is no git checkout: at least the cells
        check_that_cells_may_be_run_twice(path, tmp_path / "record")
        return
    empty, settings = as_on_colab(tmp_path, repository)
    printed = check_that_cells_may_be_run_twice(path, tmp_path / "record", empty, **settings)
    assert (empty / "course" / "shared" / "carry.py").is_file()
    assert any(text.startswith("Python ") and "GPU" in text for text in printed)
    assert {found.name for found in empty.iterdir()} <= {"course", "checkpoints"}
