"""Where git finds the course: set in one place, the same in the README and in every notebook."""

import shutil
import subprocess
import sys

import pytest

from shared import address
from shared.course import ROOT, chapter_notebook, chapters, notebooks, read_notebook
from shared.notebooks import setup_cell, text_of

GITHUB = "https://github.com/somebody/a-course"


def setup_of(path):
    return next(text_of(cell["source"]) for cell in read_notebook(path)["cells"] if "setup" in cell["metadata"]["tags"])


def test_the_readme_and_all_notebooks_have_the_address_that_is_set():
    known = address.address()
    for path in notebooks():
        assert setup_of(path) == setup_cell(known), path
    for chapter in chapters():
        path = chapter_notebook(chapter)
        first = text_of(read_notebook(path)["cells"][0]["source"])
        assert address.on_colab(path.relative_to(ROOT).as_posix(), known) in first, path
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert address.in_readme(readme, known) == readme and "<!-- colab -->" in readme


@pytest.fixture
def copy(tmp_path):
    """The course's notebooks and package in a folder of their own."""
    for path in notebooks():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in (ROOT / "shared").glob("*.py"):
        shutil.copy(path, tmp_path / "shared" / path.name)
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    shutil.copy(ROOT / "shared" / "setup_cell.py", tmp_path / "shared" / "setup_cell.py")
    return tmp_path


def command(copy, *words):
    return subprocess.run([sys.executable, "-m", "shared", "address", *words], cwd=copy, capture_output=True, text=True)


def files(copy):
    return {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*")
            if path.suffix in (".ipynb", ".md")}  # fmt: skip


def test_one_command_sets_it_everywhere_and_takes_it_back(copy):
    before = files(copy)
    assert "no address is set" in command(copy).stdout
    run = command(copy, GITHUB)
    assert run.returncode == 0 and run.stdout == f"the course's address: {GITHUB}\n", run.stderr
    assert command(copy).stdout == f"{GITHUB}\n"
    assert (copy / "shared" / "address.txt").read_text(encoding="utf-8") == f"{GITHUB}\n"
    for path in copy.glob("*/*.ipynb"):
        assert f'os.environ.get("COURSE_ADDRESS") or "{GITHUB}"' in setup_of(path)
    link = "https://colab.research.google.com/github/somebody/a-course/blob/HEAD/ch05_pretraining/ch05.ipynb"
    first = text_of(read_notebook(copy / "ch05_pretraining" / "ch05.ipynb")["cells"][0]["source"])
    assert f"[![Open in Colab](../shared/open_in_colab.svg)]({link})\n\n**On Colab:** open this notebook" in first
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert f"[![Open ch05 in Colab](shared/open_in_colab.svg)]({link}) ch05" in readme
    buttons = readme.split("<!-- colab")[1].split("<!-- /colab")[0]
    assert buttons.count("](https://colab.research.google.com/") == 9 and "solutions" not in buttons
    assert command(copy, "https://example.org:8443/courses/llm.git").returncode == 0
    elsewhere = text_of(read_notebook(copy / "ch05_pretraining" / "ch05.ipynb")["cells"][0]["source"])
    assert "colab.research" not in elsewhere and "**On Colab:** open this notebook" in elsewhere
    assert command(copy, "none").returncode == 0
    assert files(copy) == before


@pytest.mark.parametrize("wrong", ["github.com/x/y", "http://github.com/x/y", 'https://x/"y', "https://x/y z", "https://x",
                                   "https://x/y\nimport os", "file:///x/y", "--upload-pack=x"])  # fmt: skip
def test_what_is_no_address_changes_nothing(copy, wrong):
    before = files(copy)
    run = command(copy, wrong)
    assert run.returncode == 2 and "is no address of a course" in run.stderr
    assert files(copy) == before and not (copy / "shared" / "address.txt").exists()


def test_the_badge_is_there():
    assert (ROOT / "shared" / "open_in_colab.svg").read_text(encoding="utf-8").startswith("<svg")
