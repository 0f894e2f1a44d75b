"""``python3 -m shared verify FILE | FOLDER``: run the solutions of records or notebooks through the checks again."""

import argparse
import csv
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.course import FileProblem, count_of, print_any_character
from shared.exercises import known_exercises
from shared.records import page, trial
from shared.records.solutions import solutions_in

WARNING = ("This runs {solutions} from {who}: code that other people may have written. Each runs in a process of its "
           "own, with limits of time and memory, without network, and may write to no file of yours. That stops "
           "accidents and simple tricks. It is no prison: in doubt, use a container or a virtual machine.")  # fmt: skip


def main(argv):
    """Returns the exit status: 0 if all that was called solved is solved, and each page is as it was made."""
    print_any_character()
    parser = argparse.ArgumentParser(prog="python3 -m shared verify", description=__doc__.split(": ", 1)[1])
    parser.add_argument("path", type=Path, help="a record, a notebook, or a folder: of each learner a file or a folder")
    parser.add_argument("--yes", action="store_true", help="do not ask before other people's code is run")
    parser.add_argument("--csv", type=Path, help="where the table of a folder goes (default: verified.csv in it)")
    parser.add_argument("--seconds", type=_positive, default=trial.SECONDS, help="the longest that a solution may run")
    parser.add_argument("--megabytes", type=_positive, default=trial.MEGABYTES, help="the most memory it may take")
    options = parser.parse_args(argv)
    try:
        learners = found_in(options.path)
    except FileProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    n_solutions = sum(len(learner["exercises"]) for learner in learners)
    if n_solutions and not (options.yes or _agreed(n_solutions, learners)):
        print("Nothing was run.", file=sys.stderr)
        return 1
    for learner in learners:
        run_all(learner, options.seconds, options.megabytes)
        print(as_text(learner))
    if options.path.is_dir():
        table = options.csv or options.path / "verified.csv"
        try:
            write_table(learners, table)
        except OSError as error:
            print(f"{table} cannot be written ({error.strerror}); choose another place with --csv", file=sys.stderr)
            return 1
        print(f"{count_of(len(learners), 'learner')}, a row each: {table}")
    return 0 if all(map(holds, learners)) else 1


def _positive(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _agreed(n_solutions, learners):
    print(WARNING.format(solutions=count_of(n_solutions, "solution"), who=count_of(len(learners), "learner")))
    if not sys.stdin.isatty():
        print("Nobody can be asked here; say --yes if that is meant.", file=sys.stderr)
        return False
    return input("Run it? [y/N] ").strip().lower() in ("y", "yes")


def found_in(path):
    """What is to be verified: a list of dictionaries, one for each learner.

    A folder has, of each learner, a record, a notebook, or a folder with notebooks or records. A file in it that cannot
    be read becomes an entry with a ``problem``.

    Raises:
        FileProblem: for a single file that cannot be read, or if there is nothing.
    """
    if not path.is_dir():
        return [_of_files(path.name, [path])]
    learners = []
    for entry in sorted(path.iterdir()):
        files = _ours(entry.rglob("*")) if entry.is_dir() else _ours([entry])
        if files:
            try:
                learners.append(_of_files(entry.name, files))
            except FileProblem as problem:
                learners.append(_learner(entry.name, problem=str(problem)))
    if not learners:
        raise FileProblem(f"{path} has no record (.html) and no notebook (.ipynb) in it")
    return learners


def _ours(paths):
    return sorted(path for path in paths if path.suffix.lower() in (".html", ".ipynb") and path.is_file()
                  and not any(part.startswith(".") for part in path.parts[-3:]))  # fmt: skip


def _learner(source, **fields):
    return {"source": source, "learner": "", "made": "", "untouched": None, "exercises": [], "quizzes": [],
            "problem": "", **fields}  # fmt: skip


def _of_files(source, files):
    """One learner's work; of an exercise that is in several files, the last one counts."""
    learner, entries = _learner(source), {}
    for file in files:
        if file.suffix.lower() == ".ipynb":
            solutions = [{**each, "outcome": "", "solved": None, "tries": 0} for each in solutions_in(file)]
        else:
            record, untouched = page.read(file)
            learner |= {"learner": record["learner"], "made": record["made"], "quizzes": record["quizzes"],
                        "untouched": untouched and learner["untouched"] is not False}  # fmt: skip
            solutions = record["exercises"]
        entries |= {each["exercise"]: dict(each) for each in solutions}
    return {**learner, "exercises": list(entries.values())}


def run_all(learner, seconds, megabytes):
    """Judge all solutions of a learner, some at a time; each entry gets ``verdict`` and ``detail``."""

    def judged(entry):
        if not _is_exercise(entry["exercise"]):
            return "wrong", "There is no such exercise."
        return trial.run(entry, seconds, megabytes)

    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        for entry, (verdict, detail) in zip(learner["exercises"], pool.map(judged, learner["exercises"])):
            entry |= {"verdict": verdict, "detail": detail}


def _is_exercise(name):
    try:
        return name in known_exercises(trial.short_name(name.split(".")[0]))
    except (ModuleNotFoundError, ValueError):
        return False


def holds(learner):
    """Whether a learner's page is as it was made and everything that it calls solved is solved."""
    return not learner["problem"] and learner["untouched"] is not False and all(
        entry["verdict"] == "right" for entry in learner["exercises"] if entry["outcome"] in ("right", ""))  # fmt: skip


def as_text(learner):
    """What was found, line by line."""
    name = f"{learner['source']}{' (' + learner['learner'] + ')' if learner['learner'] else ''}"
    if learner["problem"]:
        return f"{name}: {learner['problem']}"
    pages = {None: "notebooks", True: "the page is as it was made", False: "the page WAS CHANGED after it was made"}
    lines = [f"{name}: {pages[learner['untouched']]}"]
    for entry in learner["exercises"]:
        claimed = f"called {entry['outcome']}, " if entry["outcome"] else ""
        mark = "  <-- " if entry["outcome"] == "right" and entry["verdict"] != "right" else ""
        detail = f": {entry['detail']}" if entry["verdict"] != "right" and entry["detail"] else ""
        lines.append(f"   {entry['exercise']:5} {claimed}is {entry['verdict']}{mark}{detail}")
    right = sum(entry["verdict"] == "right" for entry in learner["exercises"])
    return "\n".join([*lines, f"   {right} of {count_of(len(learner['exercises']), 'solution')} right"])


def write_table(learners, path):
    """The table of a class, a row each: totals, then a column for each exercise that anybody has written."""
    names = sorted({entry["exercise"] for learner in learners for entry in learner["exercises"]}, key=_in_order)
    head = ["file", "learner", "made", "page as made", "called right", "right", "wrong", "stopped", "questions right",
            "questions", "problem", *names]  # fmt: skip
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, head))
        for learner in learners:
            verdicts = {entry["exercise"]: entry["verdict"] for entry in learner["exercises"]}
            n_of = {verdict: list(verdicts.values()).count(verdict) for verdict in ("right", "wrong", "stopped")}
            untouched = {None: "", True: "yes", False: "no"}[learner["untouched"]]
            row = [learner["source"], learner["learner"], learner["made"], untouched,
                   sum(entry["outcome"] == "right" for entry in learner["exercises"]), *n_of.values(),
                   sum(quiz["right"] for quiz in learner["quizzes"]),
                   sum(quiz["questions"] for quiz in learner["quizzes"]), learner["problem"]]  # fmt: skip
            writer.writerow(map(_cell, [*row, *(verdicts.get(name, "") for name in names)]))


def _in_order(name):
    chapter, _, number = name.partition(".")
    return (chapter.zfill(3), number.zfill(4))


def _cell(value):
    """What a spreadsheet shows as it is: a text that begins like a formula is marked as a text."""
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
