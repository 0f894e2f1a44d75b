"""Writes every ``previous_chapters.py`` from the notebooks, and loads a chapter's code from its notebook.

A code cell whose first line is ``# carried forward`` holds code that later chapters use. The notebook is
the only place where that code is edited; ``python3 -m shared carry`` collects it, and ``--check`` fails if
a file is out of date. Standard library only.
"""

import ast
import difflib
import linecache
import sys
import types

from shared.course import (
    BUILDS_ON,
    ROOT,
    FileProblem,
    chapter_notebook,
    chapters,
    print_any_character,
    read_notebook,
    write_file,
)

MARKER = "# carried forward"
MODULE = "previous_chapters.py"


class CarryError(FileProblem):
    """A carried cell that cannot become part of a module; the message names notebook and cell."""


def carried_cells(notebook):
    """The sources of a notebook's carried cells, marker line removed, as ``[(cell number, source), ...]``.

    Cells are numbered from 1 and all kinds of cell count, as in the notebook's file.

    Raises:
        FileProblem: if the file is no notebook.
    """
    found = []
    for number, cell in enumerate(read_notebook(notebook)["cells"], start=1):
        # Python counts "\r" as a line's end too; with "\n" alone, its line numbers are ours.
        source = "".join(cell["source"]).replace("\r\n", "\n").replace("\r", "\n")
        first, _, rest = source.partition("\n")
        if cell["cell_type"] == "code" and first.strip() == MARKER:
            found.append((number, rest.strip("\n")))
    return found


def _parsed(source, where):
    """The syntax tree of a cell."""
    try:
        tree = ast.parse(source)
        compile(tree, where, "exec", dont_inherit=True)  # finds more: a `return` outside a function, say
        return tree
    except (SyntaxError, ValueError) as error:
        for line in source.split("\n"):
            if line.lstrip().startswith(("%", "!")):
                message = f"{where}: {line!r} is a notebook command, no Python; keep it out of a carried cell"
                raise CarryError(message) from error
        raise CarryError(f"{where}: not valid Python: {error}") from error


def _split_imports(source, tree, where):
    """A cell's top-level imports, and the rest of its text, comments and all."""
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and (reason := _not_to_be_carried(node, node in imports)):
            raise CarryError(f"{where}: `{ast.unparse(node)}`: {reason}")
    dropped = {n for node in imports for n in range(node.lineno, node.end_lineno + 1)}
    for node in tree.body:
        if node not in imports and not dropped.isdisjoint(range(node.lineno, node.end_lineno + 1)):
            raise CarryError(f"{where}: `{ast.unparse(node)}` stands on the line of an import; give it its own line")
    # Not splitlines(), which also breaks lines where Python does not, for example at a form feed in a string.
    kept = [line for n, line in enumerate(source.split("\n"), start=1) if n not in dropped]
    return imports, "\n".join(kept).strip("\n")


def _not_to_be_carried(node, at_top):
    """Why an import cannot become part of the module, and what to write instead; None if it can."""
    names = [alias.name for alias in node.names]
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    if isinstance(node, ast.ImportFrom) and node.level:
        return "a notebook is no package; import by the full name"
    if module == "__future__":
        return "it would change the code of every chapter; do without"
    if names == ["*"]:
        return "import the names that are used, one by one"
    if _is_carried(module):
        if not at_top:
            return "import it at the top level of the cell"
        if any(alias.asname for alias in node.names):
            return "in the carried code there is only the original name; import it without `as`"
    elif any(map(_is_carried, names)):
        return "import the names that are used: `from previous_chapters import ...`"
    return None


def _is_carried(module):
    """Is this the name of a ``previous_chapters`` module? Its contents are in the very module that is written."""
    return module.split(".")[-1] == "previous_chapters"


def _bindings(node, at_top=True):
    """What a cell defines outside functions and classes, also inside ``if``, ``try`` and the like.

    Yields:
        (name, dotted name of what is imported or None for a definition, does it move to the module's top?)
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child.name, None, False
        elif isinstance(child, ast.Import):
            for alias in child.names:
                top = alias.name.split(".")[0]
                yield (alias.asname, alias.name, at_top) if alias.asname else (top, top, at_top)
        elif isinstance(child, ast.ImportFrom):
            if not _is_carried(child.module):
                for alias in child.names:
                    yield alias.asname or alias.name, f"{child.module}.{alias.name}", at_top
        elif isinstance(child, (ast.Assign, ast.AnnAssign)):
            for name in ast.walk(child):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield name.id, None, False
        elif isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _bindings(child, at_top=False)


def _note_bindings(tree, where, known):
    """Enter a cell's names into ``known``; one that has another meaning already is an error.

    Within a cell, a name may be bound again, unless an import is involved: it moves in front of the rest.
    """
    for name, imported, moves in _bindings(tree):
        if name in known:
            other, other_imported, other_moves = known[name]
            same_thing = imported is not None and imported == other_imported
            in_order = other == where and not moves and not other_moves
            if not (same_thing or in_order):
                raise CarryError(f"{where}: {name} is already defined in {other}; rename one of them")
        known[name] = where, imported, moves


def _import_lines(imports):
    """Merged and sorted import statements: standard library first, then packages, then the course's own."""
    plain, members = set(), {}
    for node in imports:
        if isinstance(node, ast.Import):
            plain |= {(alias.name, alias.asname) for alias in node.names}
        elif not _is_carried(node.module):
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
        FileProblem: if a notebook cannot be read.
    """
    imports, bodies, known = [], [], {}
    for chapter, notebook in sources:
        cells = []
        for number, source in carried_cells(notebook):
            where = f"{notebook.name}, cell {number}"
            tree = _parsed(source, where)
            cell_imports, body = _split_imports(source, tree, where)
            _note_bindings(tree, where, known)
            imports += cell_imports
            cells += [body] if body else []
        if cells:
            bodies.append("\n\n\n".join([f"# {chapter} {'-' * (97 - len(chapter))}", *cells]))
    parts = [f'"""{opening}"""', _import_lines(imports), *bodies]
    text = "\n\n\n".join(part for part in parts if part).replace('"""\n\n\n', '"""\n\n', 1) + "\n"
    try:
        compile(text, "the carried code", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        names = ", ".join(chapter for chapter, _ in sources)
        raise CarryError(f"{names}: the carried cells together are not valid Python: {error}") from error
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
        FileProblem: if a notebook cannot be read.
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
    linecache.cache[module.__file__] = (len(text), None, [f"{line}\n" for line in text.split("\n")], module.__file__)
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def _present(path):
    """The bytes of a file that ``carry`` is to write; none if there is no such file yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise FileProblem(f"{path} cannot be read ({error.strerror}); move it away and repeat the command") from error


def main(argv=(), root=ROOT):
    """Write the ``previous_chapters.py`` files, or with ``--check`` report those that are out of date.

    Returns:
        0 if all files are (now) right, 1 if ``--check`` found a stale one, a cell cannot be carried or a file
        cannot be written, 2 for an unknown option.
    """
    print_any_character()
    if set(argv) - {"--check"}:
        print(f"carry knows only --check, not {' '.join(argv)}", file=sys.stderr)
        return 2
    stale, reported = 0, set()
    for chapter in chapters(root):
        path = root / chapter / MODULE
        try:
            wanted = previous_chapters_source(chapter, root)
            present = _present(path)
            if present == wanted.encode():
                continue
            if "--check" in argv:
                stale += 1
                lines = present.decode(errors="backslashreplace").split("\n"), wanted.split("\n")
                print(*difflib.unified_diff(*lines, f"{chapter}/{MODULE}", "the notebooks", lineterm=""), sep="\n")
            else:
                write_file(path, wanted.encode())
                print(f"wrote {chapter}/{MODULE}")
        except FileProblem as problem:  # the same one for each of the chapters that follow: said once
            if str(problem) not in reported:
                print(problem, file=sys.stderr)
            reported.add(str(problem))
    if stale:
        print(f"{stale} file(s) differ from the notebooks: edit the notebook, then run `python3 -m shared carry`")
    return 1 if stale or reported else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
