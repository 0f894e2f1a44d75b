"""COURSE_TEXT: chapters 2 and 5 and appendix D on a text of one's own, and what is said of texts that cannot serve."""

import os
import re
import subprocess
import sys

import pytest

from shared import assets
from shared.course import ROOT, chapter_notebook, read_notebook
from shared.notebooks import QUIET, text_of
from shared.tests.limits import HANGS


def test_the_file_is_found_and_its_kind_is_own(monkeypatch, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("My own words.", encoding="utf-8")
    monkeypatch.setenv("COURSE_TEXT", str(path))
    found = assets.fetch_text()
    assert (found.path, found.kind, found.read_text()) == (path, "own", "My own words.")
    monkeypatch.delenv("COURSE_TEXT")
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    assert assets.fetch_text().kind in ("real", "sample")


@pytest.mark.parametrize("name, what", [("missing.txt", "is no file"), (".", "is a folder")])
def test_what_is_no_file_is_named(monkeypatch, tmp_path, name, what):
    monkeypatch.setenv("COURSE_TEXT", str(tmp_path / name))
    with pytest.raises(assets.AssetError, match=f"COURSE_TEXT is .* {what}. Name a text file in UTF-8, or unset"):
        assets.fetch_text()


def run_until(chapter, last_cell, text, tmp_path):
    """Run a chapter's code cells, exercises left out, up to one of them, on a text; the finished process."""
    (tmp_path / "mine.txt").write_bytes(text)
    cells = []
    for cell in read_notebook(chapter_notebook(chapter))["cells"]:
        if cell["cell_type"] == "code" and not {"exercise", "check"} & set(cell["metadata"]["tags"]):
            cells.append(text_of(cell["source"]))
        if cell["id"] == last_cell:
            break
    else:
        raise ValueError(f"{chapter} has no cell {last_cell}")
    (tmp_path / "cells.py").write_text("\n\n".join(cells), encoding="utf-8")
    env = {**os.environ, **QUIET, "COURSE_SCALE": "small", "COURSE_OFFLINE": "1", "MPLBACKEND": "agg",
           "PYTHONPATH": str(ROOT), "COURSE_TEXT": str(tmp_path / "mine.txt")}  # fmt: skip
    command = [sys.executable, str(tmp_path / "cells.py")]
    return subprocess.run(command, cwd=chapter_notebook(chapter).parent, env=env, capture_output=True, text=True,
                          encoding="utf-8", timeout=HANGS)  # fmt: skip


NOVEL = "It was the best of seasons; she said: \"Hello, do you like tea?\" Nobody answered--the lamp was out.\n" * 120
CHINESE = "猫在温暖的屋顶上睡觉，狗在门前等它下来。" * 120
ONE_LINE = "a line that never ends and holds no sign " * 300
END_OF_2, END_OF_5_1, END_OF_D_3 = "ch02-2-8-09", "ch05-5-1-33", "app-d-D-3-11"


@pytest.mark.parametrize("text", [NOVEL, CHINESE, ONE_LINE], ids=["novel", "Chinese", "one line"])
def test_chapter_2_reads_any_text(text, tmp_path):
    done = run_until("ch02_text_data", END_OF_2, text.encode(), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [NOVEL, CHINESE], ids=["novel", "Chinese"])
def test_chapter_5_measures_any_text(text, tmp_path):
    done = run_until("ch05_pretraining", END_OF_5_1, text.encode(), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training loss 1" in done.stdout


def test_appendix_d_trains_on_any_text(tmp_path):
    done = run_until("appendix_d_training_loop", END_OF_D_3, NOVEL.encode(), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("chapter, last, text, message", [
    ("ch02_text_data", END_OF_2, b"A text of nine words is too short, you see.",
     "2 rows do not fill one batch of 4: .* or a longer text"),
    ("ch05_pretraining", END_OF_5_1, b"Twenty words will do for a start. " * 9,
     "use a longer text, a smaller context_length or batch_size, or another split"),
    ("ch02_text_data", END_OF_2, "Größe".encode("latin-1"), "mine.txt is not UTF-8 text: byte 2 is 0xf6"),
    ("ch05_pretraining", END_OF_5_1, "UTF-16".encode("utf-16-le"), "mine.txt is no text: it holds NUL characters"),
], ids=["short 2", "short 5", "Latin-1", "UTF-16"])  # fmt: skip
def test_texts_that_cannot_serve_are_refused_with_a_remedy(chapter, last, text, message, tmp_path):
    done = run_until(chapter, last, text, tmp_path)
    assert done.returncode != 0 and re.search(message, done.stderr.splitlines()[-1]), done.stderr
