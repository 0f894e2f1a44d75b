"""The generator of previous_chapters.py, on small made-up chapters and on the real notebooks."""

import errno
import importlib.util
import json
import os
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
        ("# carried forward\nasync def area(r):\n    return 0", "area is already defined in ch02.ipynb, cell 1"),
        ("# carried forward\nif True:\n    def area(r): ...", "area is already defined in ch02.ipynb, cell 1"),
        ("# carried forward\ntry:\n    pass\nexcept OSError:\n    area = 1", "area is already defined"),
        ("# carried forward\nfrom shapes import area", "area is already defined in ch02.ipynb, cell 1"),
        ("# carried forward\nfrom statistics import mean as math", "math is already defined in ch02.ipynb, cell 1"),
        ("# carried forward\nx = 1\nfrom cmath import sqrt as x", "x is already defined in ch03.ipynb, cell 2"),
        ("# carried forward\nimport os; HERE = os.getcwd()", "`HERE = os.getcwd()` stands on the line of an import"),
        ("# carried forward\nfrom previous_chapters import area as disc", "without `as`"),
        ("# carried forward\nfrom ch02_text_data.previous_chapters import area as disc", "without `as`"),
        ("# carried forward\nimport previous_chapters", "import the names that are used"),
        ("# carried forward\ndef f():\n    from previous_chapters import area", "top level of the cell"),
        ("# carried forward\nfrom __future__ import annotations", "every chapter"),
        ("# carried forward\nfrom math import *", "one by one"),
        ("# carried forward\nfrom . import helpers", "full name"),
        ("# carried forward\nreturn 1", "not valid Python"),
    ],
)
def test_cells_that_cannot_be_carried_are_named(course, cell, words, capsys):
    write_notebook(course, "ch03_attention", "x = 1", cell)
    write_notebook(course, "ch04_gpt_model")
    assert carry.main([], course) == 1
    err = capsys.readouterr().err
    assert words in err and "ch03.ipynb, cell 2" in err


def test_what_is_no_second_meaning_is_carried(course):
    """The same import again, a change of what an earlier cell made, and repeats within a cell are all right."""
    write_notebook(
        course,
        "ch03_attention",
        "# carried forward\nimport math\nfrom previous_chapters import area\n\nTABLE = {}\nTABLE = dict(TABLE)\n"
        "try:\n    import ujson as json\nexcept ImportError:\n    import json",
        "# carried forward\nimport os.path\nimport os\nTABLE['a'] = area(1)\narea.flag = True\nTABLE |= {'b': os.sep}",
    )
    module = carry.load_chapter("ch03_attention", course)
    assert module.area.flag and set(module.TABLE) == {"a", "b"} and module.json.loads("1") == 1


def test_text_is_carried_to_the_character(course):
    """Line breaks that are none for Python, and lines of a string that look like a notebook command."""
    text = "one\n%matplotlib\n!ls\x0cpage\u2028line\n"
    write_notebook(course, "ch03_attention", f"# carried forward\r\nimport os\rTEXT = \"\"\"{text}\"\"\"")
    assert carry.load_chapter("ch03_attention", course).TEXT == text


def test_a_notebook_that_cannot_be_carried_does_not_stop_the_others(course, capsys):
    write_notebook(course, "ch03_attention", "# carried forward\nfrom math import *")
    for chapter in ("ch04_gpt_model", "ch05_pretraining"):
        write_notebook(course, chapter)
    assert carry.main([], course) == 1
    assert capsys.readouterr().err.count("ch03.ipynb, cell 1") == 1  # said once, though two chapters need it
    assert (course / "ch03_attention" / "previous_chapters.py").is_file()


def test_a_damaged_generated_file_is_found_and_replaced(course, capsys):
    assert carry.main([], course) == 0
    path = course / "ch03_attention" / "previous_chapters.py"
    good = path.read_bytes()
    for damage in (good + b"caf\xe9", good.replace(b"\n", b"\r\n")):
        path.write_bytes(damage)
        assert carry.main(["--check"], course) == 1 and carry.main([], course) == 0
        assert path.read_bytes() == good
    assert "caf\\xe9" in capsys.readouterr().out
    path.unlink()
    path.mkdir()
    for options in ([], ["--check"]):
        assert carry.main(options, course) == 1
        assert f"{path} cannot be read" in capsys.readouterr().err


def test_a_read_only_course_is_a_message(course, capsys, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    assert carry.main([], course) == 1
    assert "cannot be written (Read-only file system)" in capsys.readouterr().err
    assert not list(course.rglob("*.part"))


def test_output_in_an_encoding_that_lacks_characters(course):
    """For example a Windows console, or a log under LANG=C."""
    write_notebook(course, "ch02_text_data", "# carried forward\nARROW = '\u2192'")
    command = "import pathlib, sys; from shared import carry; carry.main(['--check'], pathlib.Path(sys.argv[1]))"
    result = subprocess.run(
        [sys.executable, "-c", command, str(course)],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "\\u2192" in result.stdout, result.stderr


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
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated", "--select", "F"]
    result = subprocess.run([*ruff, str(tmp_path / "carried.py")], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("chapter", chapters())
def test_what_is_carried_is_documented(chapter):
    module = carry.load_chapter(chapter)
    own = [value for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    assert own
    for value in own:
        assert value.__doc__, f"{value.__name__} has no docstring"
