"""Where the course lies, which chapters there are, in which order they are read, and how its files are handled."""

import contextlib
import glob
import io
import itertools
import json
import os
import re
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A chapter's folder -> the chapters whose code it builds on, in reading order.
_MAIN = (
    "ch02_text_data",
    "ch03_attention",
    "ch04_gpt_model",
    "ch05_pretraining",
    "ch06_classification",
    "ch07_instruction",
)
BUILDS_ON = {chapter: _MAIN[:place] for place, chapter in enumerate(_MAIN)}
BUILDS_ON["appendix_d_training_loop"] = _MAIN[:4]
BUILDS_ON["appendix_e_lora"] = _MAIN[:5]


def chapters(root=ROOT):
    """Names of the chapter folders that exist under ``root``, in reading order."""
    return [name for name in BUILDS_ON if (root / name).is_dir()]


def chapter_notebook(chapter, root=ROOT):
    """Path of a chapter's narrative notebook: ``ch02_text_data`` -> ``ch02_text_data/ch02.ipynb``.

    Raises:
        ValueError: if ``chapter`` is not the name of a chapter folder.
    """
    if chapter not in BUILDS_ON:
        raise ValueError(f"{chapter!r} is no chapter; the chapters are {', '.join(BUILDS_ON)}")
    parts = chapter.split("_")
    stem = "_".join(parts[:2]) if parts[0] == "appendix" else parts[0]
    return root / chapter / f"{stem}.ipynb"


def short_name(number):
    """The name of a chapter's files in shared/, from its number or letter: "6" -> "ch06", "E" -> "appendix_e"."""
    return f"ch{int(number):02d}" if number.isdigit() else f"appendix_{number.lower()}"


def count_of(n, one, many=None):
    """A number with its noun: "1 text", "5 texts", "2 batches"."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def notebooks(root=ROOT):
    """Paths of all notebooks: each chapter's own and its solutions, in reading order; test_yourself last."""
    paths = []
    for chapter in chapters(root):
        main = chapter_notebook(chapter, root)
        rest = sorted(p for p in (root / chapter).glob("*.ipynb") if p != main)
        paths += [p for p in [main, *rest] if p.is_file()]
    return paths + [p for p in [root / "shared" / "test_yourself.ipynb"] if p.is_file()]


class FileProblem(ValueError):
    """A file cannot be read or written. The message names the file and the cause, and says what to do."""


def read_notebook(path):
    """A notebook as a dict in which every field is there that a valid one has.

    Editors leave out fields and Colab keeps a cell's id in its metadata; here these gaps are filled, so that nobody
    else need think of them. A cell without an id gets one from its place: the same each time.

    Raises:
        FileProblem: if the file cannot be read or is no notebook of format 4.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise FileProblem(f"{path} cannot be read ({error.strerror}); give the path of a notebook") from error
    restore = "restore it, for example with `git checkout -- FILE`"
    if not raw.strip():
        raise FileProblem(f"{path} is no notebook (it is empty); {restore}")
    if re.search(rb"^(<<<<<<<|>>>>>>>) ", raw, flags=re.M):
        raise FileProblem(f"{path} is no notebook (a merge left conflict markers <<<<<<< in it); keep one of the two "
                          "versions: `git checkout --ours -- FILE` or `git checkout --theirs -- FILE`")
    try:
        book = json.loads(raw.decode("utf-8-sig"))
        json.dumps(book, ensure_ascii=False).encode()  # half a surrogate pair could be read, but never written
        if book.get("nbformat", 4) != 4:
            raise FileProblem(f"{path} has notebook format {book['nbformat']}, the course uses 4; convert it with "
                              "`jupyter nbconvert --to notebook --inplace FILE`")
        _fill_gaps(book["cells"])
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is no notebook (byte {error.start} is not UTF-8); {restore}") from error
    except FileProblem:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileProblem(f"{path} is no notebook ({type(error).__name__}: {error}); {restore}") from error
    return book


def _fill_gaps(cells):
    """Give every cell and output its fields, in place; what is no cell raises one of Python's errors."""
    for cell in cells:
        cell["metadata"] = dict(cell.get("metadata") or {})
        cell["source"] = cell.get("source") or ""
        "".join(cell["source"])  # a number, say, is no source
        tags = cell["metadata"].get("tags") or []
        cell["metadata"]["tags"] = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
        if cell["cell_type"] == "code":
            cell.setdefault("execution_count", None)
            cell["outputs"] = cell.get("outputs") or []
            for output in cell["outputs"]:
                missing = {"stream": {"name": "stdout", "text": ""}, "error": {"ename": "", "evalue": ""}}
                for field, value in missing.get(output["output_type"], {"data": {}, "metadata": {}}).items():
                    output[field] = output.get(field) or value
        candidates = (str(place.get("id")) for place in (cell, cell["metadata"]) if place.get("id"))
        cell["id"] = next((name for name in candidates if re.fullmatch(r"[\w-]{1,64}", name, re.A)), None)
    taken = {cell["id"] for cell in cells}
    for number, cell in enumerate(cells, start=1):
        if cell["id"] is None:
            cell["id"] = next(name for n in itertools.count(number) if (name := f"cell-{n}") not in taken)
            taken.add(cell["id"])


def write_file(path, data):
    """Write bytes so that no reader ever sees a part of them, whoever else writes the file at the same time.

    Raises:
        FileProblem: if the file cannot be written; its ``__cause__`` is the OSError.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        # Windows does not let us replace a file that another program is reading. It need not be
        # replaced if it already is what we wanted to write.
        with contextlib.suppress(OSError):
            if path.read_bytes() == data:
                return
        raise FileProblem(f"{path} cannot be written ({error.strerror}). Close the programs that use it, make room on "
                          "the disk, or work in a folder that you may write to") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def part_of(path):
    """The name of a file while it is being written, another for each process: two may write the same file at once.

    What a process that was killed has left is removed here, by the next one that writes this file.
    """
    path = Path(path)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        number = left.name.removeprefix(f"{path.name}.").removesuffix(".part")
        if number.isdigit() and not _is_running(int(number)):
            with contextlib.suppress(OSError):
                left.unlink()
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _is_running(process_id):
    try:
        import psutil
    except ImportError:
        return True
    return psutil.pid_exists(process_id)


@contextlib.contextmanager
def whole_file(path, part=None):
    """Open a file for bytes that takes its name only when it is complete; until then an older one stays as it is.

    Args:
        part: the name while it is written; by default that of ``part_of``.
    """
    part = Path(part or part_of(path))
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # on the disk, and not only handed to the operating system
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def print_any_character():
    r"""Print characters that the terminal's encoding lacks as \u2026 or the like, instead of stopping."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def scale():
    """``"full"`` (the real chapter) or ``"small"`` (the same code on less work), from COURSE_SCALE.

    Raises:
        ValueError: if COURSE_SCALE holds anything else.
    """
    value = os.environ.get("COURSE_SCALE") or "full"
    if value not in ("full", "small"):
        raise ValueError(f"COURSE_SCALE is {value!r}; it must be 'full' or 'small' (or unset, which is 'full')")
    return value


def pick(*, full, small):
    """The value for the scale in force: ``epochs = pick(full=10, small=1)``."""
    return full if scale() == "full" else small
