"""The record as one HTML page, which a person reads and ``verify`` reads again."""

import hashlib
import json
import platform
import re
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version

from shared.course import ROOT, FileProblem, chapter_notebook, chapters, count_of
from shared.records.solutions import LONGEST, solutions_in

FORMAT = 1
LARGEST = 20_000_000  # bytes of a page
_DATA = re.compile(r'<script type="application/json" id="record" data-sha256="([0-9a-f]{64})">\n(.*?)\n</script>', re.S)

_STYLE = """\
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8888; border-radius: 4px; font-size: 14px }
h2 { margin-top: 2rem }"""


def made_from(learner, kept, root=ROOT):
    """The record of a learner: what is kept of the progress, and the solutions in the chapters' notebooks.

    Args:
        learner: a name, or "".
        kept: as ``progress.load`` returns it.

    Raises:
        FileProblem: if a notebook cannot be read.
    """
    from shared.study import questions

    entries = []
    for chapter in chapters(root):
        for found in solutions_in(chapter_notebook(chapter, root)):
            known = kept["exercises"].get(found["exercise"], {})
            if sum(map(len, [found["solution"], *found["needs"]])) <= LONGEST:
                entries.append({**found, "outcome": known.get("outcome") or "not checked",
                                "solved": known.get("solved"), "tries": known.get("tries", 0)})  # fmt: skip
    quizzes = []
    for chapter in questions.chapters():
        names = [question["id"] for question in questions.chapter_questions(chapter)]
        answers = [kept["answers"][name] for name in names if name in kept["answers"]]
        moments = [answer["last"] for answer in answers if answer.get("last")]
        quizzes.append({"chapter": chapter, "questions": len(names), "answered": len(answers),
                        "right": sum(answer["best"] == 1 for answer in answers),
                        "last": max(moments, default=None)})  # fmt: skip
    return {"format": FORMAT, "learner": learner, "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"Python": platform.python_version(), "torch": _version("torch")},
            "exercises": entries, "quizzes": quizzes, "cards": len(kept["cards"])}  # fmt: skip


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def as_html(record):
    """The page of a record, as text. The same record makes the same page, to the last letter."""
    data = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=True).replace("<", "\\u003c")
    solved = sum(entry["outcome"] == "right" for entry in record["exercises"])
    title = "Record" + (f" of {record['learner']}" if record["learner"] else "")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{count_of(solved, 'exercise')} solved, by the course's own checks, as this page says. Whoever has the "
        "course can run the solutions again: <code>python3 -m shared verify FILE</code>.</p>",
        _table(
            [("made", day(record["made"])), *record["versions"].items(), ("cards begun", record["cards"])]
        ),  # fmt: skip
        "<h2>Exercises</h2>",
        _table(
            [
                (
                    entry["exercise"],
                    entry["outcome"],
                    f"solved {day(entry['solved'])}" if entry["solved"] else "",
                    count_of(entry["tries"], "check"),
                )
                for entry in record["exercises"]
            ]
        )
        if record["exercises"]
        else "<p>None yet.</p>",
        "<h2>Questions</h2>",
        _table(
            [
                ("chapter", "right", "answered", "of", "last"),
                *(
                    (quiz["chapter"], quiz["right"], quiz["answered"], quiz["questions"], day(quiz["last"]))
                    for quiz in record["quizzes"]
                ),
            ]
        ),  # fmt: skip
        "<h2>Solutions</h2>",
        *(
            f"<h3>{escape(entry['exercise'])}</h3>\n<pre>{escape(entry['solution'])}</pre>"
            for entry in record["exercises"]
        ),
    ]
    body = "\n".join(parts)
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f'<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}\n'
            f'<script type="application/json" id="record" data-sha256="{digest(data)}">\n{data}\n</script>\n'
            "</body>\n</html>\n")  # fmt: skip


def _table(rows):
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in cells) + "\n</table>"


def day(moment):
    """The day of a moment that was kept as text; "" if there is none."""
    return moment[:10] if moment else ""


def digest(text):
    """SHA-256 of a text, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def read(path):
    """(record, whether the page is as it was made) from the file of a page.

    Raises:
        FileProblem: if the file cannot be read or holds no record.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FileProblem(f"{path} has more than {LARGEST:,} bytes, so it is no record")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileProblem(f"{path} cannot be read ({error.strerror}); give the file of a record") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is no record (byte {error.start} is not UTF-8)") from error
    found = _DATA.search(text)
    if found is None:
        raise FileProblem(f"{path} is no record: `python3 -m shared record` makes one")
    try:
        record = json.loads(found[2])
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path} is no record any more (its data cannot be read: {error})") from error
    fault = fault_in(record)
    if fault:
        raise FileProblem(f"{path} is no record any more ({fault})")
    return record, found[1] == digest(found[2]) and text == as_html(record)


def _is_count(value):
    return isinstance(value, int) and 0 <= value < 1_000_000


def _has_half_characters(record):
    """Whether a text in it cannot be written as UTF-8."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


_TEXTS = {"exercise": str, "solution": str, "outcome": str, "needs": list, "attempts": list, "tries": int}


def fault_in(record):
    """What is wrong with the form of a record, in words; "" if nothing is."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return f"its format is not {FORMAT}"
    if _has_half_characters(record):
        return "it holds half a character"
    forms = {"learner": str, "made": str, "versions": dict, "exercises": list, "quizzes": list, "cards": int}
    wrong = [name for name, form in forms.items() if not isinstance(record.get(name), form)]
    for entry in record["exercises"] if not wrong else ():
        entry = entry if isinstance(entry, dict) else {}
        wrong += [name for name, form in _TEXTS.items() if not isinstance(entry.get(name), form)]
        if not wrong:
            wrong += [name for name in ("needs", "attempts") if not all(isinstance(each, str) for each in entry[name])]
            wrong += [] if isinstance(entry.get("solved"), str | None) else ["solved"]
    for quiz in record["quizzes"] if not wrong else ():
        counts = ("questions", "answered", "right")
        if (
            not isinstance(quiz, dict)
            or not all(_is_count(quiz.get(name)) for name in counts)
            or not isinstance(quiz.get("chapter"), str)
            or not isinstance(quiz.get("last"), str | None)
        ):
            wrong.append("quizzes")
    return f"{wrong[0]} is not what it should be" if wrong else ""
