"""The record of a learner, from notebooks to the teacher's table: what is found again, and who is found out."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from shared.course import ROOT, FileProblem, chapter_notebook, read_notebook
from shared.exercises import known_exercises
from shared.records import page, record, trial, verify
from shared.records.solutions import solutions_in
from shared.study import progress
from shared.tests.limits import HANGS
from shared.tests.test_exercises import all_exercises

SOLVED = {each["exercise"]: each for path in sorted(ROOT.glob("ch0[23]*/solutions.ipynb"))
          for each in solutions_in(path)}  # fmt: skip
# As they would stand in the chapter, where its functions have no module in front.
RIGHT = {name: SOLVED[name]["solution"].replace("ch02.", "").replace("ch03.", "")
         for name in ("2.1", "2.2", "A.1", "A.2", "3.4", "3.5", "3.6")}  # fmt: skip
RIGHT["A.1"] = "%timeit 1 + 1\n" + RIGHT["A.1"]


def stubs():
    """Every exercise's cell in the chapters, by number, with the notebook and the place of the cell."""
    found = {}
    for chapter in ("ch02_text_data", "ch03_attention"):
        cells = read_notebook(chapter_notebook(chapter))["cells"]
        last = None
        for place, cell in enumerate(cells):
            if "exercise" in cell["metadata"]["tags"]:
                last = place
            elif "check" in cell["metadata"]["tags"]:
                found["".join(cell["source"]).split('"')[1]] = (chapter, last)
    return found


def notebooks_with(folder, written):
    """Copies of two chapters' notebooks with solutions in their cells: paths, by chapter."""
    places, paths = stubs(), {}
    for chapter in ("ch02_text_data", "ch03_attention"):
        book = read_notebook(chapter_notebook(chapter))
        for name, source in written.items():
            if places[name][0] == chapter:
                book["cells"][places[name][1]]["source"] = source
        paths[chapter] = folder / chapter / chapter_notebook(chapter).name
        paths[chapter].parent.mkdir(parents=True)
        paths[chapter].write_text(json.dumps(book), encoding="utf-8")
    return paths


def entry(name, solution, *attempts, **fields):
    return {"exercise": name, "solution": solution, "needs": [], "attempts": list(attempts), "outcome": "right",
            "solved": "2026-01-31T09:30:00+00:00", "tries": 1, **fields}  # fmt: skip


def record_of(*entries, learner="Ada"):
    return {"format": 1, "learner": learner, "made": "2026-02-01T10:00:00+00:00", "versions": {"Python": "3.11.7"},
            "exercises": list(entries), "quizzes": [], "cards": 0}  # fmt: skip


# What is taken out of the notebooks ------------------------------------------------------------------------


def test_nothing_is_written_in_the_course_itself():
    for chapter in ("ch02_text_data", "ch03_attention"):
        assert solutions_in(chapter_notebook(chapter)) == []


def test_every_exercise_of_the_solutions_is_found_once():
    found = [each["exercise"] for path in sorted(ROOT.glob("*/solutions.ipynb")) for each in solutions_in(path)]
    assert sorted(found) == sorted(all_exercises())


def test_a_solution_comes_with_what_it_uses_and_no_more(tmp_path):
    cells = [
        ("x = 1\nunused = [0]", []),
        ("# carried forward\ndef of_the_chapter():\n    return 2", []),
        ("import math as m\nlimit = 3\nfor text in ('a', 'b'):\n    pass", []),
        ("x = 5\ndef helper(text):\n    return text * limit + x", []),
        ("def answer(text, unused):\n    model = m.sqrt(4)\n    return helper(model) + of_the_chapter()", ["exercise"]),
        ("limit = 4", []),
        ('check("2.1", answer, other)', ["check"]),
        ("def answer():\n    raise NotImplementedError('exercise 2.2')", ["exercise"]),
        ('check("2.2", answer)', ["check"]),
        ("def third():\n    return 3\ncheck('2.3', third)\nunused = third()\nassert unused == 4", []),
        ("def broken(:", ["exercise"]),
        ('check("2.4", broken)', ["check"]),
    ]
    book = {"nbformat": 4, "cells": [{"cell_type": "code", "source": source, "metadata": {"tags": tags}}
                                     for source, tags in cells]}  # fmt: skip
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    first, third = solutions_in(path)
    # The last value of each name, as a check run now would see it; arguments are nobody's global names.
    helper = "def helper(text):\n    return text * limit + x"
    assert first["needs"] == ["import math as m", "x = 5", helper, "limit = 4"]
    assert first["attempts"] == ["answer", "other"] and first["solution"].startswith("def answer(text")
    assert third["exercise"] == "2.3" and third["solution"] == "def third():\n    return 3" and not third["needs"]


# Ten exercises, three of them wrong ------------------------------------------------------------------------


def test_ten_exercises_three_of_them_wrong(tmp_path, monkeypatch, capsys):
    """From the cells to the verdict, with the right outcome for each, though the record calls all ten solved."""
    wrong = {"2.3": "def split(text):\n    return text.split()", "2.4": "def pack(documents):\n    return []",
             "A.4": "def same_weights(*_):\n    return 1 / 0"}  # fmt: skip
    written = RIGHT | wrong
    assert len(written) == 10
    paths = notebooks_with(tmp_path / "course", written)
    monkeypatch.setattr(page, "chapters", lambda root: list(paths))
    monkeypatch.setattr(page, "chapter_notebook", lambda chapter, root: paths[chapter])
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress"))
    for name in written:
        progress.record_exercise(name, "right")
    progress.record_answer("2.1-1", 1, 1)
    file = tmp_path / "Ada.html"
    assert record.main([str(file), "--name", "Ada <b>"]) == 0
    assert "10 solutions, 10 of them right by your last check" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    assert "<h1>Record of Ada &lt;b&gt;</h1>" in text and "10 exercises solved" in text
    assert str(tmp_path) not in text and "ROOT" not in text

    assert verify.main([str(file), "--yes"]) == 1
    out = capsys.readouterr().out
    assert "the page is as it was made" in out and "7 of 10 solutions right" in out, out
    for name in written:
        found = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert ("is right" in found) == (name not in wrong) and ("<--" in found) == (name in wrong), found
    assert "ZeroDivisionError" in out


# What is found out -----------------------------------------------------------------------------------------

GOOD = entry("3.4", RIGHT["3.4"], *SOLVED["3.4"]["attempts"], needs=SOLVED["3.4"]["needs"])


def with_judged(learner, **limits):
    verify.run_all(learner, limits.get("seconds", 60), limits.get("megabytes", 3_000))
    return {each["exercise"]: (each["verdict"], each["detail"]) for each in learner["exercises"]}


def test_a_solution_without_end_or_with_all_memory_is_stopped_and_the_others_are_judged(tmp_path):
    endless = entry("3.4", "def softmax_rows(rows):\n    while True:\n        pass", "softmax_rows")
    more = "kept = []\ndef window_mask(*_):\n    while True:\n        kept.append(bytearray(10**7))"
    greedy = entry("3.5", more, "window_mask")
    gone = entry("3.6", "import os\ndef attend_last(*_):\n    os._exit(0)", "attend_last")
    fine = entry("A.1", SOLVED["A.1"]["solution"], "center_columns", needs=["import torch"])
    found = with_judged({"exercises": [endless, greedy, gone, fine]}, seconds=4, megabytes=2_000)
    assert found["3.4"] == ("stopped", "It ran longer than 4 seconds.")
    assert found["3.5"] == ("stopped", "It took more than 2,000 MB of memory.")
    assert found["3.6"] == ("stopped", "Its process ended with status 0 and without a verdict.")
    assert found["A.1"] == ("right", "")


def test_what_a_solution_may_not_do(tmp_path):
    """Each of these would make the check pass, or do harm outside; none passes, and nothing outside changes."""
    outside = tmp_path / "outside.txt"
    outside.write_text("as it was", encoding="utf-8")
    tricks = {
        "a check of its own": "import shared.exercises.ch03 as c\nfor n in ('claim', 'same', 'close', 'must_raise'):\n"
                              "    setattr(c, n, lambda *a, **k: None)\ndef softmax_rows(rows):\n    return rows",
        "another judge": "import shared.exercises as e\ne.judge = lambda name, *a: e.Verdict(name, 'right')\n"
                         "def softmax_rows(rows):\n    return rows",
        "a check that accepts anything": "import torch\ntorch.allclose = lambda *a, **k: True\n"
                                         "torch.equal = lambda *a, **k: True\n"
                                         "def softmax_rows(rows):\n    return rows.clone()",
        "another entry of the list": "import shared.exercises as e\ne._CHECKS['3.4'] = lambda f: None\n"
                                     "def softmax_rows(rows):\n    return rows",
        "another verdict": "import shared.exercises as e\ne.Verdict.outcome = property(lambda self: 'right')\n"
                           "def softmax_rows(rows):\n    return rows",
        "its own verdict": "import os\nopen('verdict.json', 'w').write('[\"right\", \"\"]')\nos._exit(0)",
        "a file outside": f"open({str(outside)!r}, 'w').write('changed')\n{RIGHT['3.4']}",
        "a file removed": f"import os\nos.remove({str(outside)!r})\n{RIGHT['3.4']}",
        "the network": f"import socket\nsocket.create_connection(('127.0.0.1', 9), 1)\n{RIGHT['3.4']}",
        "no limit of time": f"import os\nos.remove('begun')\n{RIGHT['3.4']}",
        "a process beside": "import multiprocessing\ndef f(): pass\n"
                            f"multiprocessing.get_context('spawn').Process(target=f).start()\n{RIGHT['3.4']}",
        "the one that watches": f"import os\nos.kill(os.getppid(), 0)\n{RIGHT['3.4']}",
        "a data base": f"import sqlite3\nsqlite3.connect({str(outside)!r})\n{RIGHT['3.4']}",
        "a program": f"import subprocess\nsubprocess.run(['true'])\n{RIGHT['3.4']}",
    }  # fmt: skip
    for name, solution in tricks.items():
        outcome, detail = trial.run(entry("3.4", solution, "softmax_rows"), seconds=60)
        assert outcome == "wrong", (name, outcome, detail)
        assert detail, name
    assert outside.read_text(encoding="utf-8") == "as it was"


def test_a_program_that_a_check_starts_is_shut_in_too():
    """Exercise 5.4 is a program of its own: the right one is accepted, one that reaches out is not."""
    path = ROOT / "ch05_pretraining" / "solutions.ipynb"
    solved = next(each for each in solutions_in(path) if each["exercise"] == "5.4")
    assert trial.run(solved) == ("right", "")
    begin = 'return """\n'
    reaching = begin + "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)\n"
    assert solved["solution"].count(begin) == 1
    outcome, detail = trial.run({**solved, "solution": solved["solution"].replace(begin, reaching)})
    assert outcome == "wrong" and "a solution that is verified may not do this: socket" in detail


def test_a_page_that_was_edited_is_found_out(tmp_path):
    file = tmp_path / "record.html"
    made = page.as_html(record_of({**GOOD, "outcome": "wrong"}, GOOD | {"exercise": "2.1"}))
    file.write_text(made, encoding="utf-8")
    assert page.read(file) == (record_of({**GOOD, "outcome": "wrong"}, GOOD | {"exercise": "2.1"}), True)
    for old, new in [('"outcome": "wrong"', '"outcome": "right"'), ("<td>wrong</td>", "<td>right</td>"),
                     ("Record of Ada", "Record of Bob"), ('"tries": 1', '"tries": 2'),
                     ("</body>", " </body>")]:  # fmt: skip
        assert old in made
        file.write_text(made.replace(old, new, 1), encoding="utf-8")
        assert page.read(file)[1] is False, old
    learner = verify._of_files("record.html", [file])
    for each in learner["exercises"]:
        each |= {"verdict": "right", "detail": ""}
    assert not verify.holds(learner) and "WAS CHANGED" in verify.as_text(learner)


def test_a_page_holds_its_data_whatever_the_texts_are(tmp_path):
    nasty = "</script><script>alert(1)</script> <!-- \u2028 & ü 猫"
    file = tmp_path / "record.html"
    data = record_of(entry("2.1", f"# {nasty}", nasty), learner=nasty)
    file.write_text(page.as_html(data), encoding="utf-8", newline="")
    assert page.read(file) == (data, True)
    assert "<script>alert" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("change, message", [
    (lambda data: data.pop("exercises"), "exercises is not what it should be"),
    (lambda data: data.update(format=2), "its format is not 1"),
    (lambda data: data["exercises"][0].pop("solution"), "solution is not"),
    (lambda data: data["exercises"][0].update(needs=[1]), "needs is not"),
    (lambda data: data["exercises"].append("2.1"), "exercise is not"),
    (lambda data: data["exercises"][0].update(solved=5), "solved is not"),
    (lambda data: data["quizzes"].append({}), "quizzes is not"),
    (lambda data: data["quizzes"].append({"chapter": "ch02", "questions": 1, "answered": 1, "right": "1"}), "quizzes"),
])  # fmt: skip
def test_a_record_of_another_form_is_refused_by_name(tmp_path, change, message):
    data = record_of(dict(GOOD))
    text = page.as_html(data)
    old = json.dumps(data, indent=1, sort_keys=True).replace("<", "\\u003c")
    assert old in text
    change(data)
    (tmp_path / "r.html").write_text(text.replace(old, json.dumps(data)), encoding="utf-8")
    with pytest.raises(FileProblem, match=message):
        page.read(tmp_path / "r.html")


@pytest.mark.parametrize("content, message", [
    (b"<html></html>", "is no record: "), (b"\xff\xfe", "byte 0 is not UTF-8"),
    (b'<script type="application/json" id="record" data-sha256="' + b"0" * 64 + b'">\n{\n</script>', "cannot be read"),
])  # fmt: skip
def test_what_is_no_record_is_named(tmp_path, content, message, capsys):
    (tmp_path / "r.html").write_bytes(content)
    assert verify.main([str(tmp_path / "r.html"), "--yes"]) == 1
    assert message in capsys.readouterr().err


# A class ---------------------------------------------------------------------------------------------------


def test_a_class_becomes_a_table(tmp_path, capsys, monkeypatch):
    ran = []

    def run(each, seconds, megabytes):
        ran.append(each["solution"])
        return ("right", "") if "good" in each["solution"] else ("wrong", "It is bad.")

    monkeypatch.setattr(trial, "run", run)
    good, bad = entry("3.4", "# good", "softmax_rows"), entry("2.1", "# bad", "pieces", outcome="wrong")
    (tmp_path / "ada.html").write_text(page.as_html(record_of(good, bad)), encoding="utf-8")
    (tmp_path / "bob.html").write_text(page.as_html(record_of(good, learner="=1+1")) + " ", encoding="utf-8")
    (tmp_path / "broken.html").write_text("nothing", encoding="utf-8")
    notebooks_with(tmp_path / "eve", {"2.1": "pieces = good = len", "3.4": "softmax_rows = bad = len"})
    (tmp_path / "notes.txt").write_text("not looked at", encoding="utf-8")
    unknown = entry("9.9", "# good")
    (tmp_path / "zoe.html").write_text(page.as_html(record_of(unknown)), encoding="utf-8")
    assert verify.main([str(tmp_path), "--yes"]) == 1
    with open(tmp_path / "verified.csv", encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ada.html", "bob.html", "broken.html", "eve", "zoe.html"]
    assert (rows["ada.html"]["right"], rows["ada.html"]["wrong"], rows["ada.html"]["page as made"]) == ("1", "1", "yes")
    assert rows["bob.html"]["page as made"] == "no" and rows["bob.html"]["learner"] == "'=1+1"
    assert "is no record" in rows["broken.html"]["problem"]
    assert (rows["eve"]["2.1"], rows["eve"]["3.4"], rows["eve"]["page as made"]) == ("right", "wrong", "")
    assert rows["zoe.html"]["9.9"] == "wrong" and len(ran) == 5
    assert "5 learners, a row each" in capsys.readouterr().out


def test_it_asks_before_it_runs_other_peoples_code(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trial, "run", lambda *_: pytest.fail("it was run"))
    (tmp_path / "ada.html").write_text(page.as_html(record_of(GOOD)), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert verify.main([str(tmp_path / "ada.html")]) == 1
    said = capsys.readouterr()
    assert "other people may have written" in said.out and "say --yes" in said.err and "Nothing was run" in said.err

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert verify.main([str(tmp_path / "ada.html")]) == 1
    monkeypatch.setattr("builtins.input", lambda _: "y")
    monkeypatch.setattr(trial, "run", lambda *_: ("right", ""))
    assert verify.main([str(tmp_path / "ada.html")]) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals in the way of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_it_keeps_what_was_found_and_leaves_nothing_running(tmp_path, kind):
    endless = entry("3.4", "def softmax_rows(rows):\n    open('here', 'w').close()\n    while True:\n        pass",
                    "softmax_rows")  # fmt: skip
    (tmp_path / "ada.html").write_text(page.as_html(record_of(GOOD)), encoding="utf-8")
    (tmp_path / "bob.html").write_text(page.as_html(record_of(endless)), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", "import sys; from shared.records.verify import main; "
                                "sys.exit(main(sys.argv[1:]))", str(tmp_path), "--yes"], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline().startswith("ada.html")
    started = []
    while not started:    # the endless one has begun
        started = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.05)
    process.send_signal(kind)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130 and "Stopped" in err, (out, err)
    with open(tmp_path / "verified.csv", encoding="utf-8", newline="") as file:
        assert [row["3.4"] for row in csv.DictReader(file)] == ["right", "not run"]
    gone, alive = psutil.wait_procs(started, timeout=HANGS)
    assert not alive


def test_an_empty_folder_says_what_it_looked_for(tmp_path, capsys):
    assert verify.main([str(tmp_path), "--yes"]) == 1
    assert "has no record (.html) and no notebook (.ipynb)" in capsys.readouterr().err


def test_a_solution_sees_nothing_of_the_users_settings(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    spy = "import os\nif 'SOME_TOKEN' in os.environ: raise ValueError(os.environ['SOME_TOKEN'])\n" + RIGHT["3.4"]
    assert trial.run(entry("3.4", spy, "softmax_rows")) == ("right", "")


def test_the_chapter_of_an_exercise():
    assert trial.chapter_of("A.1") == "ch02_text_data" and trial.chapter_of("E.2") == "appendix_e_lora"
    assert {trial.chapter_of(name) for name in known_exercises("ch07")} == {"ch07_instruction"}
    with pytest.raises(ValueError, match="no chapter for exercise '12.1'"):
        trial.chapter_of("12.1")
