"""Every check accepts a solution, reports a stub as not written, and rejects plausible wrong answers."""

import ast
import importlib
import json
import re

import pytest
import torch

from shared import exercises
from shared.course import ROOT, notebooks
from shared.exercises import check, judge, known_exercises

CASES = {}
for _module in sorted(path.stem for path in (ROOT / "shared" / "tests").glob("answers_*.py")):
    CASES |= importlib.import_module(f"shared.tests.{_module}").CASES
SOLUTION = {name: case[0] for name, case in CASES.items()}


def all_exercises():
    modules = [path.stem for path in (ROOT / "shared" / "exercises").glob("*.py") if path.stem != "__init__"]
    return [name for module in modules for name in known_exercises(module)]


def test_every_exercise_is_tested_here():
    assert sorted(CASES) == sorted(all_exercises())


@pytest.mark.parametrize("name", sorted(CASES))
def test_solution_is_accepted(name):
    verdict = judge(name, *CASES[name][0])
    assert verdict.outcome == "right", verdict


@pytest.mark.parametrize("name, mistake", [(name, mistake) for name in sorted(CASES) for mistake in CASES[name][1]])
def test_wrong_answer_is_rejected_with_a_reason(name, mistake):
    verdict = judge(name, *CASES[name][1][mistake])
    assert verdict.outcome == "wrong"
    assert len(str(verdict)) > len(f"Exercise {name}: not yet. ") + 20


@pytest.mark.parametrize("name", sorted(CASES))
def test_at_least_four_wrong_answers(name):
    assert len(CASES[name][1]) >= 4


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_stub_is_not_written_yet(name, capsys):
    def stub(*args):
        raise NotImplementedError(f"exercise {name}")

    # The learner writes what comes first, and functions; classes and configs are the chapter's own.
    first, *rest = SOLUTION[name]
    check(name, stub, *[answer if isinstance(answer, (type, dict)) else stub for answer in rest])
    assert capsys.readouterr().out == f"Exercise {name}: stub is not written yet.\n"


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(ValueError, match="no exercise '2.99'; chapter 2 has 2.1, 2.2"):
        check("2.99", print)
    with pytest.raises(ValueError, match="no exercise '77.1'; chapter 77 has none"):
        check("77.1", print)
    with pytest.raises(ValueError, match="no exercise 'nonsense'"):
        check("nonsense", print)


def test_an_exception_in_the_answer_is_reported_not_raised(capsys):
    check("2.5", lambda n, length, stride: n // 0)
    assert "ZeroDivisionError" in capsys.readouterr().out

    def asserts(n, length, stride):
        assert n < 0, "my own check"

    check("2.5", asserts)
    out = capsys.readouterr().out
    assert "AssertionError" in out and "my own check" in out and "claim" not in out


def test_the_number_of_attempts_is_explained(capsys):
    check("2.2", SOLUTION["2.2"][0])
    assert "takes first_batch, shared_tokens, in this order; it got 1" in capsys.readouterr().out


def test_the_stub_that_is_left_is_named(capsys):
    def shared_tokens(max_length, stride):
        raise NotImplementedError("exercise 2.2")

    check("2.2", SOLUTION["2.2"][0], shared_tokens)
    assert capsys.readouterr().out == "Exercise 2.2: shared_tokens is not written yet.\n"


def test_the_number_must_be_given_in_quotes():
    with pytest.raises(ValueError, match=r'in quotes: check\("2.1"'):
        judge(2.10, *SOLUTION["2.1"])


def test_a_helper_that_is_not_implemented_is_no_stub(capsys):
    def helper():
        raise NotImplementedError("this backend cannot do it")

    check("2.5", lambda n, length, stride: helper())
    assert "not yet" in (out := capsys.readouterr().out) and "this backend cannot do it" in out


def test_checking_leaves_the_random_numbers_alone():
    def draws(n, length, stride):
        torch.manual_seed(0)
        return max(0, -(-(n - length) // stride))

    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    assert judge("2.5", draws).outcome == "right"
    assert torch.equal(torch.rand(1), want)


def test_messages_do_not_show_the_solution():
    """A failed claim says what should hold; the expected ids of an exercise stand in no message."""
    verdict = judge("2.1", lambda text: [(0, text)])
    assert "33901" not in str(verdict)


def exercise_cells():
    for path in notebooks():
        if not path.stem.startswith("solutions"):
            book = json.loads(path.read_text(encoding="utf-8"))
            yield path, ["".join(cell["source"]) for cell in book["cells"]], book["cells"]


def test_each_exercise_has_statement_minutes_hint_stub_check_and_solution():
    found = []
    for path, sources, cells in exercise_cells():
        if not (path.parent / "solutions.ipynb").is_file():  # a notebook that belongs to no chapter has no exercises
            assert not any("### Exercise" in source for source in sources)
            continue
        solutions = (path.parent / "solutions.ipynb").read_text(encoding="utf-8")
        for place, source in enumerate(sources):
            for name in re.findall(r"^### Exercise ([\w.]+):", source, flags=re.M):
                found.append(name)
                statement = source[source.index(f"### Exercise {name}:") :]
                assert re.search(r"\(\d+ min\)", statement.splitlines()[0]), f"{name}: minutes"
                assert "**By hand" in statement, f"{name}: example by hand"
                assert "<details><summary>Hint</summary>" in statement, f"{name}: hint"
                stub, check_cell = cells[place + 1], cells[place + 2]
                assert stub["metadata"].get("tags") == ["exercise"] and f"exercise {name}" in sources[place + 1]
                assert any(isinstance(n, ast.Raise) for n in ast.walk(ast.parse(sources[place + 1])))
                assert check_cell["metadata"].get("tags") == ["check"] and f'check("{name}"' in sources[place + 2]
                stored = "".join(check_cell["outputs"][0]["text"])
                assert re.fullmatch(rf"Exercise {name}: \w+ is not written yet.\n", stored)
                assert f"## Exercise {name}:" in solutions and f'check(\\"{name}\\"' in solutions, f"{name}: solution"
    assert sorted(found) == sorted(all_exercises())


def test_solutions_are_stored_solved():
    for path in notebooks():
        if path.stem.startswith("solutions"):
            book = json.loads(path.read_text(encoding="utf-8"))
            sources = "\n".join("".join(cell["source"]) for cell in book["cells"])
            outputs = "".join("".join(o.get("text", "")) for cell in book["cells"] for o in cell.get("outputs", []))
            checked = set(re.findall(r'^check\("([\w.]+)"', sources, flags=re.M))
            assert checked and checked == set(re.findall(r"Exercise ([\w.]+): every claim holds", outputs))


def test_a_wrong_solution_is_an_error_where_the_tests_run_the_solutions(monkeypatch, capsys):
    """And only there: a learner's Run All goes on, and a stub is none of this."""
    exercises.check("5.10", lambda numbers: (1.0, []))
    monkeypatch.setenv(exercises.STRICT, "1")
    with pytest.raises(exercises.ClaimFailed, match="Exercise 5.10: not yet"):
        exercises.check("5.10", lambda numbers: (1.0, []))

    def stub(numbers):
        raise NotImplementedError("exercise 5.10")

    exercises.check("5.10", stub)
    assert capsys.readouterr().out.count("not yet") == 2
