"""Runs the notebooks to store their outputs, keeps their files clean, and says what is wrong with one.

    python3 -m shared notebooks --run [PATH ...]    execute from a clean kernel, clean up, save
    python3 -m shared notebooks --tidy [PATH ...]   clean up without running
    python3 -m shared notebooks --check [PATH ...]  list what is wrong; exit status 1 if anything is

Without paths: every notebook of the course. Tidying never touches what a cell printed or drew. It removes
what differs from run to run (time stamps, widget ids, progress bars, memory addresses) and writes the
setup cell, which is the same everywhere.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

from shared import address
from shared.course import ROOT, FileProblem, notebooks, print_any_character, read_notebook, write_file

_ADDRESS_LINE = 'os.environ.get("COURSE_ADDRESS") or ""'  # of the setup cell; an address that is set stands in it
SETUP_CELL = Path(__file__).with_name("setup_cell.py")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
TAGS = {"setup", "exercise", "check", "nbval-check-output", "log"}
LONGEST_OUTPUT = 15  # lines of text a cell may print; a training log, tagged "log", may be longer
LARGEST_FILE = 600  # KB

# The same settings as in the tests: what a cell prints must not depend on who runs it. (PYTHONOPTIMIZE, unless
# it is empty, would take away the assertions.)
QUIET = {"PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "", "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1",
         "COURSE_PROGRESS": "off", "COURSE_TEXT": ""}

_KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# A bar of tqdm, "Epoch 1:  50%|###   | 1/2 [00:01<00:01,  1.5s/it]", or without a known end "3it [00:01,  1.5s/it]".
_PROGRESS = re.compile(
    r"(?:^|(?<=\r))[^\r]*?"
    r"(?:\d+%\|[^|\r]*\|(?: *[\w.]+/[\w.?]+ ?)?(?:\[[^]\r]*\])?|[\d.]+\w* \[\d\d:\d\d[^]\r]*\])"
)
_CURSOR = re.compile(r"\r|\x1b\[A")  # back to the line's begin, and up: how a bar is drawn over the last one
_ADDRESS = re.compile(r"at 0x[0-9a-fA-F]{6,}")  # a hexadecimal number without "at" may be what a cell is about


def text_of(part):
    """The text of a cell's source or an output's field, stored as one string or as a list of lines."""
    return part if isinstance(part, str) else "".join(part)


def _without_progress(text):
    """Text without progress bars; what a program printed behind a bar, a warning for example, stays."""
    kept = []
    for line in text.replace("\r\n", "\n").split("\n"):
        rest = _CURSOR.sub("", _PROGRESS.sub("", line))
        if rest.strip() or rest == line:
            kept.append(rest)
    return "\n".join(kept)


def _tidy_output(output):
    """One output without what differs from run to run; None if nothing is left of it."""
    if output["output_type"] == "stream":
        text = _ADDRESS.sub("at 0x...", text_of(output["text"]))
        if output["name"] == "stderr":
            text = _without_progress(text)
        if not text:
            return None
        return {"name": output["name"], "output_type": "stream", "text": text.splitlines(keepends=True)}
    if "data" in output:
        data = dict(output["data"])
        if data.pop(WIDGET_VIEW, None) and set(data) <= {"text/plain"}:
            return None
        if "text/plain" in data:
            data["text/plain"] = _ADDRESS.sub("at 0x...", text_of(data["text/plain"])).splitlines(keepends=True)
        output = {**output, "data": data}
    return output


def _joined(outputs):
    """Text that a cell printed piece by piece as one output: where the pieces end is a matter of chance."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before and output["output_type"] == "stream" == before["output_type"] and output["name"] == before["name"]:
            text = "".join(before["text"] + output["text"])
            joined[-1] = {**before, "text": text.splitlines(keepends=True)}
        else:
            joined.append(output)
    return joined


def setup_cell(known):
    """The source of the first code cell of every notebook, for an address of the course, which may be ""."""
    source = SETUP_CELL.read_text(encoding="utf-8").strip()
    return source.replace(_ADDRESS_LINE, _ADDRESS_LINE.replace('""', f'"{known}"'))


def tidy(book, path=None):
    """A copy of a notebook, as ``read_notebook`` returns it, in the form in which it is committed.

    Args:
        path: where it lies; in the course's folder, its text on Colab is the one for that place.
    """
    place = path.relative_to(ROOT).as_posix() if path is not None and path.is_relative_to(ROOT) else None
    known, cells = address.address(), []
    for cell in book["cells"]:
        tags = cell["metadata"].get("tags", [])
        source = setup_cell(known) if "setup" in tags else text_of(cell["source"])
        if place and cell["cell_type"] == "markdown":
            source = address.in_notebook(source, place, known)
        clean = {
            "cell_type": cell["cell_type"],
            "id": cell["id"],
            "metadata": {"tags": tags} if tags else {},
            "source": source.splitlines(keepends=True),
        }
        if cell.get("attachments"):  # images pasted into a text
            clean["attachments"] = cell["attachments"]
        if "setup" in tags:  # plumbing: folded away in JupyterLab, a click shows it
            clean["metadata"]["jupyter"] = {"source_hidden": True}
        if cell["cell_type"] == "code":
            clean["execution_count"] = cell["execution_count"]
            clean["outputs"] = _joined([kept for output in cell["outputs"] if (kept := _tidy_output(output))])
            for output in clean["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = cell["execution_count"]
        cells.append(clean)
    return {"cells": cells, "metadata": _KERNEL, "nbformat": 4, "nbformat_minor": 5}


def as_text(book):
    """The notebook file's text: the layout that Jupyter itself writes, so that saving changes nothing else."""
    return json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _image_problems(place, cell):
    if cell["cell_type"] == "markdown":
        for alt, address in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text_of(cell["source"])):
            if not alt.strip():
                yield f"{place}: the image {address} has no alt text"
            if address.startswith("http"):
                yield f"{place}: the image {address} is not in the repository"
    for output in cell.get("outputs", []):
        if "image/png" in output.get("data", {}) and not output["metadata"].get("image/png", {}).get("alt"):
            yield f"{place}: a figure without alt text; show it with shared.drawing.show(figure, alt=...)"


def problems(path):
    """What is wrong with a notebook as it is stored: a list of sentences, empty if nothing is.

    nbval by itself accepts a cell marked for comparison that was never run, so that is looked at here.

    Raises:
        FileProblem: if it cannot be read at all.
    """
    book = read_notebook(path)
    raw = path.read_bytes()  # bytes, because line ends count too
    found = []
    if raw != as_text(tidy(book, path)).encode():
        found.append("not in the form in which notebooks are committed: run `python3 -m shared notebooks --tidy`")
    if len(raw) > LARGEST_FILE * 1024:
        found.append(f"{len(raw) // 1024} KB; at most {LARGEST_FILE} are allowed: fewer or smaller figures")
    code = [(n, cell) for n, cell in enumerate(book["cells"], start=1) if cell["cell_type"] == "code"]
    if [cell["execution_count"] for _, cell in code] != list(range(1, len(code) + 1)):
        found.append("not run from top to bottom in a clean kernel: `python3 -m shared notebooks --run`")
    if not code or "setup" not in code[0][1]["metadata"].get("tags", []):
        found.append("the first code cell is not the setup cell (tag 'setup')")
    if len({cell["id"] for cell in book["cells"]}) != len(book["cells"]):
        found.append("two cells have the same id")
    for number, cell in enumerate(book["cells"], start=1):
        place = f"cell {number}"
        tags = set(cell["metadata"].get("tags", []))
        if tags - TAGS:
            found.append(f"{place}: unknown tag {', '.join(sorted(tags - TAGS))}; known are {', '.join(sorted(TAGS))}")
        outputs = cell.get("outputs", [])
        if "nbval-check-output" in tags and not outputs:
            found.append(f"{place}: marked for comparison, but has no stored output")
        found += [f"{place}: stored an error, {o['ename']}" for o in outputs if o["output_type"] == "error"]
        printed = "".join(text_of(o["text"]) for o in outputs if o["output_type"] == "stream")
        if printed.count("\n") > LONGEST_OUTPUT and "log" not in tags:
            found.append(f"{place}: prints {printed.count(chr(10))} lines, at most {LONGEST_OUTPUT} are allowed")
        found += _image_problems(place, cell)
    return found


def execute(path):
    """Run a notebook from top to bottom in a clean kernel, in its own folder; returns it as a dict.

    Raises:
        FileProblem: if it cannot be read, or a cell fails; the message then holds the cell and its traceback.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    # Tidied first: the setup cell that runs is the one that is stored.
    book = nbformat.reads(as_text(tidy(read_notebook(path), path)), as_version=4)
    client = NotebookClient(
        book, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute(env={**os.environ, **QUIET})
    except (CellExecutionError, DeadKernelError) as error:
        raise FileProblem(f"{path} was not run to its end and is left as it was: {error}") from error
    return json.loads(nbformat.writes(book))


def save(book, path):
    """Write a tidied notebook; an interruption leaves the old one."""
    write_file(path, as_text(tidy(book, path)).encode())


def main(argv):
    """Command line, see the module's docstring; returns the exit status."""
    print_any_character()
    modes = [word for word in argv if word.startswith("-")]
    if len(modes) != 1 or modes[0] not in ("--run", "--tidy", "--check"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    paths = [Path(word).resolve() for word in argv if not word.startswith("-")] or notebooks()
    wrong = 0
    for path in paths:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        try:
            if modes[0] == "--run":
                print(f"running {name}", flush=True)
                begin = time.monotonic()
                save(execute(path), path)
                print(f"   {(time.monotonic() - begin) / 60:.1f} minutes")
            elif modes[0] == "--tidy":
                save(read_notebook(path), path)
            found = [f"{name}: {problem}" for problem in problems(path)]
        except FileProblem as problem:  # the other notebooks shall have their turn
            found = [str(problem)]
        wrong += len(found)
        print("".join(f"{line}\n" for line in found), end="")
    if not wrong:
        print(f"{len(paths)} notebook(s): clean")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
