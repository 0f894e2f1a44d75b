"""``python3 -m shared verify FILE | FOLDER``: run the solutions of records or notebooks through the checks again."""

import argparse
import csv
import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared.course import FileProblem, count_of, print_any_character, write_file
from shared.exercises import known_exercises
from shared.records import page, trial
from shared.records.solutions import solutions_in

WARNING = (
    "This runs {solutions} from {who}: code that other people may have written. Each runs in a process of its own, "
    "with limits of time and memory; connections, other programs and writing outside a folder of its own are refused "
    "by Python. That stops accidents and simple tricks. It is no prison: in doubt, use a container or another machine."
)
LEAST_MEGABYTES = 1_000  # the course itself takes a few hundred
LONGEST_WORDS = 300  # of what a learner's file says, in a line


def main(argv):
    """Returns the exit status: 0 if all that was called solved is solved, and each page is as it was made."""
    print_any_character()
    parser = argparse.ArgumentParser(prog="python3 -m shared verify", description=__doc__.split(": ", 1)[1])
    parser.add_argument("path", type=Path, help="a record, a notebook, or a folder: of each learner a file or a folder")
    parser.add_argument("--yes", action="store_true", help="do not ask before other people's code is run")
    parser.add_argument("--csv", type=Path, help="where the table goes (default, for a folder: verified.csv in it)")
    parser.add_argument("--seconds", type=_at_least(1), default=trial.SECONDS,
                        help="the longest that a solution may run")  # fmt: skip
    parser.add_argument("--megabytes", type=_at_least(LEAST_MEGABYTES), default=trial.MEGABYTES,
                        help="the most memory that a solution may take")  # fmt: skip
    parser.add_argument("--start", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)  # where the user stands
    options = parser.parse_args(argv)
    path = options.start / options.path
    try:
        learners = found_in(path)
    except FileProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    n_solutions = sum(len(learner["exercises"]) for learner in learners)
    if n_solutions and not (options.yes or _agreed(n_solutions, learners)):
        print("Nothing was run.", file=sys.stderr)
        return 1
    table = options.start / options.csv if options.csv else path / "verified.csv" if path.is_dir() else None
    stopped = _judge_all(learners, options)
    if table is not None:
        try:
            write_file(table, as_csv(learners).encode())
        except FileProblem as problem:
            print(problem, file=sys.stderr)
            return 1
        print(f"{count_of(len(learners), 'learner')}, a row each: {table}")
    if stopped:
        print("Stopped: what was not run yet is called so.", file=sys.stderr)
        return 130
    return 0 if all(map(holds, learners)) else 1


def _judge_all(learners, options):
    """Judge everybody's solutions; True if somebody stopped it."""

    def ended(number, frame):
        raise KeyboardInterrupt

    before = {name: signal.signal(name, ended) for name in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))}
    try:
        for learner in learners:
            run_all(learner, options.seconds, options.megabytes)
            print(as_text(learner), flush=True)
    except KeyboardInterrupt:
        return True
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    return False


def _at_least(least):
    def number(text):
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not {least:,} or more")
        return value

    return number


def _agreed(n_solutions, learners):
    print(WARNING.format(solutions=count_of(n_solutions, "solution"), who=count_of(len(learners), "learner")))
    if not sys.stdin.isatty():
        print("Nobody can be asked here; say --yes if that is meant.", file=sys.stderr)
        return False
    return input("Run it? [y/N] ").strip().lower() in ("y", "yes")


def found_in(path):
    """What is to be verified: a list of dictionaries, one for each learner.

    A folder has, of each learner, a record, a notebook, or a folder with notebooks or records. A file that cannot be
    read is named in its learner's ``problem``, and the others count. The course's own solutions are left out.

    Raises:
        FileProblem: for a single file that cannot be read, or if there is nothing.
    """
    if not path.is_dir():
        learner = _of_files(path.name, [path])
        if learner["problem"]:
            raise FileProblem(learner["problem"])
        return [learner]
    learners = []
    for entry in sorted(path.iterdir()):
        files = _ours(entry, entry.rglob("*")) if entry.is_dir() else _ours(path, [entry])
        if files:
            learners.append(_of_files(entry.name, files))
    if not learners:
        raise FileProblem(f"{path} has no record (.html) and no notebook (.ipynb) in it")
    return learners


def _ours(folder, paths):
    return sorted(path for path in paths if path.suffix.lower() in (".html", ".ipynb") and path.is_file()
                  and path.name != "solutions.ipynb"
                  and not any(part.startswith(".") for part in path.relative_to(folder).parts))  # fmt: skip


def _of_files(source, files):
    """One learner's work. Of an exercise that is in several files all versions are kept; any right one counts."""
    learner = {"source": source, "learner": "", "made": "", "untouched": None, "exercises": [], "quizzes": [],
               "problem": ""}  # fmt: skip
    entries, problems, n_read = {}, [], 0
    for file in files:
        try:
            if file.suffix.lower() == ".ipynb":
                solutions = [{**each, "outcome": "", "solved": None, "tries": 0} for each in solutions_in(file)]
            else:
                record, untouched = page.read(file)
                learner |= {"learner": record["learner"], "made": record["made"], "quizzes": record["quizzes"],
                            "untouched": untouched and learner["untouched"] is not False}  # fmt: skip
                solutions = record["exercises"]
        except FileProblem as problem:
            problems.append(str(problem))
            continue
        n_read += 1
        for each in solutions:
            entries.setdefault(each["exercise"], []).append(dict(each))
    exercises = [{**versions[-1], "versions": versions} for versions in entries.values()]
    # A foreign page beside a notebook is nobody's fault.
    return {**learner, "exercises": exercises, "problem": "" if n_read else "; ".join(problems)}


def run_all(learner, seconds, megabytes):
    """Judge all solutions of a learner, some at a time; each entry gets ``verdict`` and ``detail``."""
    for entry in learner["exercises"]:
        entry |= {"verdict": "not run", "detail": ""}

    def judged(entry):
        if not _is_exercise(entry["exercise"]):
            return "wrong", "There is no such exercise."
        verdicts = []
        for version in entry.get("versions", [entry]):
            verdicts.append(trial.run(version, seconds, megabytes))
            if verdicts[-1][0] == "right":
                break
        return verdicts[-1]

    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2))
    try:
        for entry, (verdict, detail) in zip(learner["exercises"], pool.map(judged, learner["exercises"])):
            entry |= {"verdict": verdict, "detail": detail}
    finally:
        trial.stop_all()  # those that still run, if somebody stopped us
        pool.shutdown(cancel_futures=True)


def _is_exercise(name):
    try:
        return name in known_exercises(trial.short_name(name.split(".")[0]))
    except (ModuleNotFoundError, ValueError):
        return False


def holds(learner):
    """Whether a learner's page is as it was made and everything that it calls solved is solved."""
    return not learner["problem"] and learner["untouched"] is not False and all(
        entry["verdict"] == "right" for entry in learner["exercises"] if entry["outcome"] in ("right", ""))  # fmt: skip


def _one_line(words):
    """Words from a learner's file as they can be shown in a terminal: in a line, and not without end."""
    shown = "".join(letter if letter.isprintable() else " " for letter in words)
    return shown if len(shown) <= LONGEST_WORDS else shown[:LONGEST_WORDS] + " ..."


def as_text(learner):
    """What was found, line by line."""
    name = _one_line(f"{learner['source']}{' (' + learner['learner'] + ')' if learner['learner'] else ''}")
    if learner["problem"]:
        return f"{name}: {_one_line(learner['problem'])}"
    pages = {None: "notebooks", True: "the page is as it was made", False: "the page WAS CHANGED after it was made"}
    lines = [f"{name}: {pages[learner['untouched']]}"]
    for entry in learner["exercises"]:
        claimed = f"called {_one_line(entry['outcome'])}, " if entry["outcome"] else ""
        mark = "  <-- " if entry["outcome"] == "right" and entry["verdict"] != "right" else ""
        detail = f": {_one_line(entry['detail'])}" if entry["verdict"] != "right" and entry["detail"] else ""
        lines.append(f"   {_one_line(entry['exercise']):5} {claimed}is {entry['verdict']}{mark}{detail}")
    right = sum(entry["verdict"] == "right" for entry in learner["exercises"])
    return "\n".join([*lines, f"   {right} of {count_of(len(learner['exercises']), 'solution')} right"])


def as_csv(learners):
    """The table of a class, a row each: totals, then a column for each exercise that anybody has written."""
    names = sorted({entry["exercise"] for learner in learners for entry in learner["exercises"]}, key=_in_order)
    head = ["file", "learner", "made", "page as made", "called right", "right", "wrong", "stopped", "questions right",
            "questions", "problem", *names]  # fmt: skip
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(map(_cell, head))
    for learner in learners:
        verdicts = {entry["exercise"]: entry.get("verdict", "not run") for entry in learner["exercises"]}
        n_of = {verdict: list(verdicts.values()).count(verdict) for verdict in ("right", "wrong", "stopped")}
        untouched = {None: "", True: "yes", False: "no"}[learner["untouched"]]
        row = [learner["source"], learner["learner"], learner["made"], untouched,
               sum(entry["outcome"] == "right" for entry in learner["exercises"]), *n_of.values(),
               sum(quiz["right"] for quiz in learner["quizzes"]),
               sum(quiz["questions"] for quiz in learner["quizzes"]), learner["problem"]]  # fmt: skip
        writer.writerow(map(_cell, [*row, *(verdicts.get(name, "") for name in names)]))
    return file.getvalue()


def _in_order(name):
    chapter, _, number = name.partition(".")
    return (chapter.zfill(3), number.zfill(4))


def _cell(value):
    """What a spreadsheet shows as it is: a text that begins like a formula is marked as a text."""
    text = _one_line(str(value))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
