"""The solutions' notebooks, each cell twice; a file of its own, so that two workers share the work."""

import pytest

from shared.course import ROOT, notebooks
from shared.tests.running import check_that_cells_may_be_run_twice

BOOKS = [path for path in notebooks() if path.stem == "solutions"]


@pytest.mark.parametrize("path", BOOKS, ids=[str(path.relative_to(ROOT)) for path in BOOKS])
def test_cells_may_be_run_twice(path, tmp_path):
    check_that_cells_may_be_run_twice(path, tmp_path / "record")
