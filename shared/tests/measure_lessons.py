"""What stands in the way of a lesson, counted by notebook: guards, walls of figures, scales inside of claims.

    python3 -m shared.tests.measure_lessons [NOTEBOOK ...]          the notebooks as they are
    python3 -m shared.tests.measure_lessons --at COMMIT [...]       as they were in a commit of git

carried: lines of the cells that later chapters use. raise: lines with a ``raise``, and how many of them stand in the
setup cell and in the stubs of exercises. tables: asserts (or calls of assert_close) in which four numbers or more are
typed out. scale: asserts in which ``pick`` or ``expect`` is called, so that a reader has to think of two cases. words:
of the prose.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize

from shared.course import ROOT, notebooks, read_notebook

SKIPPED = {"setup", "exercise"}


def claims(code):
    """The parts of a cell that assert something: assert statements and calls of assert_close."""
    for node in ast.walk(ast.parse(code)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Assert) or getattr(called, "attr", getattr(called, "id", "")) == "assert_close":
            yield node


def typed_numbers(node):
    """How many numbers stand in a piece of code."""
    return sum(isinstance(part, ast.Constant) and type(part.value) in (int, float) for part in ast.walk(node))


def asks_for_the_scale(node):
    """Whether ``pick`` or ``.expect`` is called in a piece of code."""
    calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    return any(getattr(call, "attr", getattr(call, "id", "")) in ("pick", "expect") for call in calls)


def lines_with_raise(code):
    """How many lines of a cell hold the keyword ``raise``, comments and texts left out."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.NAME and token.string == "raise"})


def measure(book):
    """The counts of one notebook, a dict."""
    counts = dict.fromkeys(("carried", "raise", "stubs", "tables", "scale", "words"), 0)
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            counts["words"] += len(re.findall(r"[\w'’-]+", source))
        elif cell["cell_type"] == "code":
            counts["raise"] += lines_with_raise(source)
            if SKIPPED & set(cell["metadata"].get("tags", [])):
                counts["stubs"] += lines_with_raise(source)
            if source.startswith("# carried forward"):
                counts["carried"] += sum(bool(line.strip()) for line in source.splitlines()[1:])
            found = list(claims(source))
            counts["tables"] += sum(typed_numbers(claim) >= 4 for claim in found)
            counts["scale"] += sum(asks_for_the_scale(claim) for claim in found)
    return counts


def at_commit(path, commit):
    """A notebook as it was in a commit; None if it was not there."""
    name = path.relative_to(ROOT).as_posix()
    found = subprocess.run(["git", "show", f"{commit}:{name}"], cwd=ROOT, capture_output=True)
    return json.loads(found.stdout) if found.returncode == 0 else None


def main(argv):
    """Print a line a notebook; see the module's docstring."""
    commit = argv[argv.index("--at") + 1] if "--at" in argv else None
    names = [word for word in argv if word not in ("--at", commit)]
    paths = [ROOT / name for name in names] or [path for path in notebooks() if path.stem != "solutions"]
    print(f"{'notebook':18} carried  raise (stubs)  tables  scale   words")
    for path in paths:
        book = at_commit(path, commit) if commit else read_notebook(path)
        if book:
            found = measure(book)
            print(f"{path.stem:18} {found['carried']:7} {found['raise']:6} {found['stubs']:7} {found['tables']:7} "
                  f"{found['scale']:6} {found['words']:7}")


if __name__ == "__main__":
    main(sys.argv[1:])
