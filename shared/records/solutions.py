"""What a learner wrote for the exercises, taken out of a notebook with all that it needs to run alone."""

import ast
import builtins
import re
import symtable

from shared.carry import MARKER
from shared.course import read_notebook
from shared.notebooks import text_of

_STUB = re.compile(r"raise NotImplementedError\(\s*[\"']exercise ")
_MAGIC = re.compile(r"^\s*[%!?]")
LONGEST = 100_000  # characters of one solution with what it needs


def solutions_in(path):
    """The exercises of a notebook for which the learner wrote something, in order.

    Returns a list of dictionaries: ``exercise`` (its number), ``solution`` (the source as the learner wrote it),
    ``needs`` (the statements of other cells that it uses), ``attempts`` (what the check is given: expressions).
    Carried cells are left out: whoever runs a solution has the chapter's code.

    Raises:
        FileProblem: if the file cannot be read or is no notebook.
    """
    cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    found, before, writing = [], [], []
    for cell in cells:
        source = text_of(cell["source"])
        tree = _parsed(source)
        if tree is None:  # unfinished Python; it may be the solution of an exercise
            writing += [source] if "exercise" in cell["metadata"]["tags"] else []
            continue
        call = next((node for node in ast.walk(tree) if _is_check(node)), None)
        if call is not None:
            rest, later = _statements(source, tree, without=call), []
            if "check" not in cell["metadata"]["tags"]:  # written into one cell with the call
                # What comes after the call is trying out, and no part of the solution.
                earlier = _statements(source, tree, before=call.lineno)
                later = [each for each in rest if each not in earlier]
                writing, rest = [*writing, *(text for *_, text in earlier)], []
            statements = before + rest
            solution = "\n\n".join(writing)
            if solution.strip() and not _STUB.search(solution):
                attempts = [ast.unparse(argument) for argument in call.args[1:]]
                found.append({"exercise": call.args[0].value, "solution": solution, "attempts": attempts,
                              "needs": _needs(solution, attempts, statements)})  # fmt: skip
            # A later exercise may build on this one.
            before += [each for text in writing for each in _statements(text, _parsed(text))] + rest + later
            writing = []
        elif "exercise" in cell["metadata"]["tags"]:
            writing.append(source)
        elif "setup" not in cell["metadata"]["tags"] and not source.lstrip().startswith(MARKER):
            before += _statements(source, tree)
    return found


def _parsed(source):
    """A cell as a syntax tree, its lines for IPython left out; None if it is no Python."""
    try:
        return ast.parse(plain(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def plain(source):
    """Python without the lines that are meant for IPython: %timeit, !ls, ?."""
    return "\n".join("" if _MAGIC.match(line) else line for line in source.split("\n"))


def _is_check(node):
    """Whether a node is check("2.1", ...)."""
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check" and node.args
            and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str))  # fmt: skip


def _statements(source, tree, without=None, before=None):
    """[(names that it binds, names that it uses, text), ...] of the statements of a cell, outermost ones."""
    found = []
    for node in tree.body if tree is not None else ():
        inside = list(ast.walk(node))
        if without in inside or (before is not None and node.lineno >= before):
            continue
        bound = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        bound |= {each.name for each in inside if isinstance(each, (ast.FunctionDef, ast.ClassDef))}
        bound |= {(alias.asname or alias.name).split(".")[0] for each in inside
                  if isinstance(each, (ast.Import, ast.ImportFrom)) for alias in each.names}  # fmt: skip
        if bound:
            text = "\n".join(plain(source).split("\n")[_first_line(node) - 1 : node.end_lineno])
            found.append((bound, _used(text), text))
    return found


def _first_line(node):
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _used(text):
    """The global names that a piece of Python reads: not its functions' own arguments and variables."""
    used, scopes = set(), [symtable.symtable(plain(text), "<cell>", "exec")]
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        used |= {name.get_name() for name in scope.get_symbols() if name.is_referenced()
                 and (name.is_global() or scope.get_type() == "module")}  # fmt: skip
    return used - set(dir(builtins))


def _needs(solution, attempts, statements):
    """The texts of the statements that a solution and its check use, directly or not, in the notebook's order."""
    if _parsed(solution) is None:
        return []
    wanted = _used("\n".join([solution, *attempts]))
    own = set().union(*(bound for bound, *_ in _statements(solution, _parsed(solution))))
    chosen, looked_up = set(), set(own)
    while wanted - looked_up:
        name = min(wanted - looked_up)
        looked_up.add(name)
        # The last one that binds it; what no statement binds is the chapter's own code, or missing.
        place = next((i for i in reversed(range(len(statements))) if name in statements[i][0]), None)
        if place is not None and place not in chosen:
            chosen.add(place)
            wanted |= statements[place][1]
    return [statements[place][2] for place in sorted(chosen)]
