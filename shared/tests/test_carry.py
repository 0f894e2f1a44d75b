"""The generator of previous_chapters.py, on small made-up chapters and on the real notebooks."""

import importlib.util
import json
import subprocess
import sys

import pytest

from shared import carry
from shared.course import BUILDS_ON, ROOT, chapter_notebook, chapters


def write_notebook(root, chapter, *cells):
    """A notebook with the given code cells in the folder of ``chapter`` under ``root``."""
    path = chapter_notebook(chapter, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    book = {"cells": [{"cell_type": "code", "metadata": {}, "source": cell, "outputs": []} for cell in cells]}
    path.write_text(json.dumps(book), encoding="utf-8")


def load_by_path(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def course(tmp_path):
    """Two chapters; the second uses the first one's code."""
    write_notebook(
        tmp_path,
        "ch02_text_data",
        "# carried forward\nimport math\nfrom collections import Counter\n\n\n"
        "def area(r):\n    # pi, not 3\n    return math.pi * r * r",
        "print('not carried')",
    )
    write_notebook(
        tmp_path,
        "ch03_attention",
        "# carried forward\nfrom collections import defaultdict\nfrom previous_chapters import area\nimport torch\n\n\n"
        "def twice(r):\n    return 2 * area(r)",
    )
    return tmp_path


def test_a_module_holds_the_chapters_before_it_and_works(course):
    assert carry.main([], course) == 0
    first = (course / "ch02_text_data" / "previous_chapters.py").read_text(encoding="utf-8")
    assert "Nothing comes before" in first
    module = load_by_path(course / "ch03_attention" / "previous_chapters.py", "carried_for_ch03")
    assert module.area(1) == pytest.approx(3.14159, abs=1e-5) and not hasattr(module, "twice")
    text = (course / "ch03_attention" / "previous_chapters.py").read_text(encoding="utf-8")
    assert "edit the notebook, not this file" in text and "# pi, not 3" in text and "print" not in text
    assert "# ch02_text_data ---" in text


def test_imports_are_merged_at_the_top_and_own_modules_dropped(course):
    text = carry.module_source([(n, chapter_notebook(n, course)) for n in ("ch02_text_data", "ch03_attention")], "All.")
    head = text[: text.index("# ch02_text_data")]
    assert "import math\nfrom collections import Counter, defaultdict\n\nimport torch\n" in head
    assert text.count("import") == 3 and "previous_chapters" not in text


def test_check_finds_a_hand_edited_and_a_missing_file(course, capsys):
    assert carry.main([], course) == 0 and carry.main(["--check"], course) == 0
    path = course / "ch03_attention" / "previous_chapters.py"
    path.write_text(path.read_text(encoding="utf-8").replace("math.pi", "3"), encoding="utf-8")
    capsys.readouterr()
    assert carry.main(["--check"], course) == 1
    out = capsys.readouterr().out
    assert "-    return 3 * r * r" in out and "+    return math.pi * r * r" in out and "shared carry" in out
    assert "3 * r * r" in path.read_text(encoding="utf-8")  # --check repairs nothing
    path.unlink()
    assert carry.main(["--check"], course) == 1
    assert carry.main([], course) == 0 and carry.main(["--check"], course) == 0


def test_load_chapter_gives_own_code_and_that_before(course):
    module = carry.load_chapter("ch03_attention", course)
    assert module.twice(1) == pytest.approx(6.28319, abs=1e-5)
    assert carry.load_chapter("ch02_text_data", course).area is not module.area
    with pytest.raises(ValueError, match="'ch99' is no chapter; the chapters are ch02_text_data"):
        carry.load_chapter("ch99", course)
    with pytest.raises(ValueError, match="ch04_gpt_model has no notebook"):
        carry.load_chapter("ch04_gpt_model", course)


@pytest.mark.parametrize(
    "cell, words",
    [
        ("# carried forward\n%matplotlib inline", "notebook command"),
        ("# carried forward\n!pip install x", "notebook command"),
        ("# carried forward\ndef broken(:", "not valid Python"),
        ("# carried forward\ndef area(r):\n    return 0", "already defined in ch02.ipynb, cell 1"),
    ],
)
def test_cells_that_cannot_be_carried_are_named(course, cell, words, capsys):
    write_notebook(course, "ch03_attention", "x = 1", cell)
    write_notebook(course, "ch04_gpt_model")
    assert carry.main([], course) == 1
    err = capsys.readouterr().err
    assert words in err and "ch03.ipynb, cell 2" in err


def test_a_file_that_is_no_notebook_is_named(course, capsys):
    chapter_notebook("ch02_text_data", course).write_text("{ half a", encoding="utf-8")
    assert carry.main([], course) == 1
    assert "ch02.ipynb is no notebook" in capsys.readouterr().err


def test_unknown_option(course):
    assert carry.main(["--chekc"], course) == 2


def test_reading_order():
    assert BUILDS_ON["ch05_pretraining"] == ("ch02_text_data", "ch03_attention", "ch04_gpt_model")
    assert BUILDS_ON["appendix_d_training_loop"][-1] == "ch05_pretraining"
    assert BUILDS_ON["appendix_e_lora"][-1] == "ch06_classification"
    assert chapter_notebook("appendix_d_training_loop").name == "appendix_d.ipynb"


def test_the_committed_files_are_up_to_date():
    assert carry.main(["--check"]) == 0


@pytest.mark.parametrize("chapter", chapters())
def test_the_code_of_each_chapter_stands_on_its_own(chapter, tmp_path):
    """Carried cells use nothing that only a cell which is not carried defines (a forgotten import, say)."""
    names = [*(n for n in BUILDS_ON[chapter] if n in chapters()), chapter]
    text = carry.module_source([(n, chapter_notebook(n)) for n in names], "All of it.")
    (tmp_path / "carried.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", str(tmp_path / "carried.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("chapter", chapters())
def test_what_is_carried_is_documented(chapter):
    module = carry.load_chapter(chapter)
    own = [value for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    assert own
    for value in own:
        assert value.__doc__, f"{value.__name__} has no docstring"
