"""What a learner has done: answers, exercises and cards, in one small file under the user's data folder.

Nothing here ever stops a lesson. A file that cannot be read is set aside with a message; one that cannot be written is
told once. Two notebooks may write at the same time: each change is read, made and written under a lock, and the file
is replaced whole.

The file is ``progress.json`` in the folder ``COURSE_PROGRESS``, or in the user's data folder of this system. With
``COURSE_PROGRESS=off`` nothing is kept.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from shared.course import ROOT, write_file

VERSION = 1
KINDS = ("answers", "exercises", "cards")
REMEDY = "set COURSE_PROGRESS to a folder of yours, or to off"
_told = set()


def folder():
    """Where the file lies, as a Path; None if nothing is to be kept."""
    chosen = os.environ.get("COURSE_PROGRESS", "").strip()
    if chosen.lower() == "off":
        return None
    import platformdirs

    try:
        # A relative one counts from the course's folder.
        return ROOT / Path(chosen or platformdirs.user_data_dir("llm-course", appauthor=False)).expanduser()
    except RuntimeError as error:  # "~someone" whom the system does not know, or nobody's home at all
        _tell(f"your progress is not kept ({error}); {REMEDY}")
        return None


def path():
    """The file, whether it exists or not; None if nothing is to be kept."""
    return None if folder() is None else folder() / "progress.json"


def now():
    """This moment as text, in UTC: 2026-01-31T09:30:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _tell(message):
    """Print a message, but each only once in a process."""
    if message not in _told:
        _told.add(message)
        print(message)


def _valid(data):
    """Whether something read from the file has the form that is written to it, so that nobody need look again."""
    if not isinstance(data, dict) or not all(isinstance(data.get(kind, {}), dict) for kind in KINDS):
        return False
    if not all(isinstance(each, dict) for kind in KINDS for each in data.get(kind, {}).values()):
        return False
    numbers = [each.get(name) for each in data.get("answers", {}).values() for name in ("right", "of", "tries", "best")]
    if not all(isinstance(number, (int, float)) for number in numbers):
        return False
    try:
        return all(datetime.fromisoformat(each["due"]).tzinfo for each in data.get("cards", {}).values())
    except (KeyError, TypeError, ValueError):
        return False


def _read(file):
    """What the file holds; nothing, if there is none or it had to be set aside. OSError if it cannot be known."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        data = None
    if _valid(data):
        return data
    aside = file.with_name(f"{file.name}.damaged-{datetime.now():%Y%m%d-%H%M%S}")
    os.replace(file, aside)
    _tell(f"your progress in {file} was damaged; it was set aside as {aside.name}, and a new file begins")
    return {}


def load():
    """All that is kept: {"answers": {...}, "exercises": {...}, "cards": {...}}, each name -> a dictionary."""
    file, data = path(), {}
    if file is not None:
        try:
            data = _read(file)
        except OSError as error:
            _tell(f"your progress in {file} cannot be read ({error.strerror}); {REMEDY}")
    return {kind: dict(data.get(kind, {})) for kind in KINDS}


def update(kind, name, change):
    """Change what is kept under a name: ``change`` gets a copy of the dictionary kept so far, and returns the new one.

    Args:
        kind: "answers", "exercises" or "cards".
        name: of the question, exercise or card.

    Returns:
        The new dictionary, whether or not it could be written.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r} of progress; the kinds are {', '.join(KINDS)}")
    file = path()
    if file is None:
        return change({})
    from filelock import FileLock, Timeout

    new = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=5):
            data = _read(file)
            new = change(dict(data.get(kind, {}).get(name, {})))
            data = {"version": VERSION, **data}
            data[kind] = {**data.get(kind, {}), name: new}
            write_file(file, json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    except (OSError, Timeout, ValueError) as error:  # of a file that cannot be read, too: it is not written over
        _tell(f"your progress could not be kept in {file} ({getattr(error, 'strerror', None) or error}); {REMEDY}")
    return change({}) if new is None else new


def record_answer(name, right, of):
    """Keep an answer to a question: ``right`` parts of ``of``. The first and the best are kept beside the last."""

    def change(known):
        tries = known.get("tries", 0) + 1
        best = max(known.get("best", 0.0), right / of)
        return {**known, "right": right, "of": of, "tries": tries, "best": best, "first": known.get("first", now()),
                "last": now()}  # fmt: skip

    return update("answers", name, change)


def record_exercise(name, outcome):
    """Keep the outcome of an exercise ("right" or "wrong"). One that was right once stays solved."""

    def change(known):
        solved = known.get("solved") or (now() if outcome == "right" else None)
        return {**known, "outcome": outcome, "tries": known.get("tries", 0) + 1, "solved": solved, "last": now()}

    return update("exercises", name, change)
