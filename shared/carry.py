"""Writes every ``previous_chapters.py`` from the notebooks, and loads a chapter's code from its notebook.

A code cell whose first line is ``# carried forward`` holds code that later chapters use. The notebook is
the only place where that code is edited; ``python3 -m shared carry`` collects it, and ``--check`` fails if
a file is out of date. Standard library only.
"""

import ast
import difflib
import json
import linecache
import os
import sys
import types
from pathlib import Path

from shared.course import BUILDS_ON, ROOT, chapter_notebook, chapters

MARKER = "# carried forward"
MODULE = "previous_chapters.py"


class CarryError(ValueError):
    """A carried cell that cannot become part of a module; the message names notebook and cell."""


def carried_cells(notebook):
    """The sources of a notebook's carried cells, marker line removed, as ``[(cell number, source), ...]``.

    Cells are numbered from 1 and all kinds of cell count, as in the notebook's file.

    Raises:
        CarryError: if the file is no notebook.
    """
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError) as error:
        raise CarryError(f"{notebook} is no notebook ({error}); restore it, for example with git checkout") from error
    found = []
    for number, cell in enumerate(cells, start=1):
        first, _, rest = "".join(cell["source"]).partition("\n")
        if cell["cell_type"] == "code" and first.strip() == MARKER:
            found.append((number, rest.strip("\n")))
    return found


def _split_imports(source, where):
    """Separate a cell's top-level imports from the rest of its text, comments and all."""
    for line in source.splitlines():
        if line.startswith(("%", "!")):
            raise CarryError(f"{where}: {line!r} is a notebook command, no Python; keep it out of a carried cell")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise CarryError(f"{where}: not valid Python: {error}") from error
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    dropped = {n for node in imports for n in range(node.lineno, node.end_lineno + 1)}
    kept = [line for n, line in enumerate(source.splitlines(), start=1) if n not in dropped]
    return imports, "\n".join(kept).strip("\n"), tree


def _defined_names(tree):
    """Names that a cell defines at its top level."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _import_lines(imports):
    """Merged and sorted import statements: standard library first, then packages, then the course's own."""
    plain, members = set(), {}
    for node in imports:
        if isinstance(node, ast.Import):
            plain |= {(alias.name, alias.asname) for alias in node.names}
        elif node.module.split(".")[-1] != "previous_chapters":  # its contents are in this very module
            members.setdefault(node.module, set()).update((alias.name, alias.asname) for alias in node.names)

    def spelled(alias):
        return alias[0] if alias[1] is None else f"{alias[0]} as {alias[1]}"

    groups = [[], [], []]
    statements = [(name, f"import {spelled((name, asname))}") for name, asname in plain]
    statements += [
        (module, f"from {module} import {', '.join(sorted(map(spelled, names)))}") for module, names in members.items()
    ]
    for module, statement in sorted(statements, key=lambda item: (item[1].startswith("from"), item)):
        top = module.split(".")[0]
        groups[0 if top in sys.stdlib_module_names else 2 if top == "shared" else 1].append(statement)
    return "\n\n".join("\n".join(group) for group in groups if group)


def module_source(sources, opening):
    """The text of one module out of several notebooks.

    Args:
        sources: chapter names, in reading order, whose carried cells go in: ``[(chapter, notebook), ...]``.
        opening: the module's docstring.

    Raises:
        CarryError: if a cell is no Python, or defines a name that an earlier cell defined: a later chapter
            would silently get one meaning where the text taught the other.
    """
    imports, bodies, origin = [], [], {}
    for chapter, notebook in sources:
        cells = []
        for number, source in carried_cells(notebook):
            where = f"{notebook.name}, cell {number}"
            cell_imports, body, tree = _split_imports(source, where)
            for name in _defined_names(tree):
                if name in origin:
                    raise CarryError(f"{where}: {name} is already defined in {origin[name]}; rename one of them")
                origin[name] = where
            imports += cell_imports
            cells += [body] if body else []
        if cells:
            bodies.append("\n\n\n".join([f"# {chapter} {'-' * (97 - len(chapter))}", *cells]))
    parts = [f'"""{opening}"""', _import_lines(imports), *bodies]
    text = "\n\n\n".join(part for part in parts if part).replace('"""\n\n\n', '"""\n\n', 1) + "\n"
    ast.parse(text)
    return text


def previous_chapters_source(chapter, root=ROOT):
    """The text that ``previous_chapters.py`` in the folder of ``chapter`` must have."""
    before = [name for name in BUILDS_ON[chapter] if chapter_notebook(name, root).is_file()]
    if not before:
        return f'"""Nothing comes before {chapter}: the course\'s code begins in this folder\'s notebook."""\n'
    opening = (
        f"The code of the chapters before {chapter}: {', '.join(before)}.\n\n"
        "Generated by `python3 -m shared carry`: edit the notebook, not this file.\n"
    )
    return module_source([(name, chapter_notebook(name, root)) for name in before], opening)


def load_chapter(chapter, root=ROOT):
    """Everything a chapter has built, its predecessors' code included, as a module.

    The code is read from the carried cells of the notebooks, so it is what the text shows:

    >>> ch02 = load_chapter("ch02_text_data")        # doctest: +SKIP
    >>> ch02.create_dataloader_v1                    # doctest: +SKIP

    Raises:
        ValueError: if there is no such chapter; the message lists those that exist.
        CarryError: if a carried cell cannot be read.
    """
    notebook = chapter_notebook(chapter, root)
    if not notebook.is_file():
        raise ValueError(f"{chapter} has no notebook {notebook.name}; there are {', '.join(chapters(root))}")
    names = [*BUILDS_ON[chapter], chapter]
    sources = [(name, chapter_notebook(name, root)) for name in names if chapter_notebook(name, root).is_file()]
    text = module_source(sources, f"The code of {chapter} and the chapters before it.")
    module = types.ModuleType(f"course_{chapter}")
    module.__file__ = f"<carried cells of {chapter}>"
    # Tracebacks and inspect.getsource look the text up here, since no file holds it.
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def main(argv=(), root=ROOT):
    """Write the ``previous_chapters.py`` files, or with ``--check`` report those that are out of date.

    Returns:
        0 if all files are (now) right, 1 if ``--check`` found a stale one or a cell cannot be carried,
        2 for an unknown option.
    """
    if set(argv) - {"--check"}:
        print(f"carry knows only --check, not {' '.join(argv)}", file=sys.stderr)
        return 2
    stale = 0
    for chapter in chapters(root):
        path = root / chapter / MODULE
        try:
            wanted = previous_chapters_source(chapter, root)
        except CarryError as error:
            print(error, file=sys.stderr)
            return 1
        present = path.read_text(encoding="utf-8") if path.is_file() else ""
        if present == wanted:
            continue
        if "--check" in argv:
            stale += 1
            lines = present.splitlines(keepends=True), wanted.splitlines(keepends=True)
            print("".join(difflib.unified_diff(*lines, f"{chapter}/{MODULE}", "the notebooks")))
        else:
            # Written aside and renamed: a reader never sees half a file.
            aside = path.with_suffix(".partial")
            aside.write_text(wanted, encoding="utf-8", newline="\n")
            os.replace(aside, path)
            print(f"wrote {chapter}/{MODULE}")
    if stale:
        print(f"{stale} file(s) differ from the notebooks: edit the notebook, then run `python3 -m shared carry`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
