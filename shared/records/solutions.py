"""What a learner wrote for the exercises, taken out of a notebook with all that it needs to run alone.

A solution is found by its check, and not by the cell that it was meant to stand in: of ``check("2.1", pieces)`` the
statement that binds ``pieces`` last, and whatever that uses. What a learner tried out around it is left behind.
"""

import ast
import re
import symtable
from collections import Counter
from dataclasses import dataclass

from shared.carry import MARKER
from shared.course import read_notebook
from shared.notebooks import text_of

LONGEST = 100_000  # characters of one solution with what it needs
# What stands behind or below these is Python.
_TIMED = re.compile(r"^(\s*)%time(?:it)? +(?=\S)|\A\s*%%(?:time|timeit|capture)\b.*$", re.MULTILINE)
_MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear", "sort", "reverse"}


@dataclass(frozen=True)
class Statement:
    """An outermost statement of a cell: what it binds, which global names it reads when it runs, and when called."""

    cell: int
    line: int
    text: str
    bound: frozenset
    reads: frozenset
    reads_later: frozenset
    node: ast.stmt


def solutions_in(path):
    """The exercises of a notebook for which the learner wrote something, in the order of their checks.

    Returns a list of dictionaries: ``exercise`` (its number), ``solution`` (the statements that the check is about),
    ``needs`` (the statements of other cells that these use), ``attempts`` (what the check is given: expressions).
    Carried cells are left out: whoever runs a solution has the chapter's code. Of several checks of an exercise the
    last one counts.

    Raises:
        FileProblem: if the file cannot be read or is no notebook.
    """
    statements, checks, given = [], {}, set()
    for number, cell in enumerate(read_notebook(path)["cells"]):
        source, tags = text_of(cell["source"]), cell["metadata"]["tags"]
        if cell["cell_type"] != "code" or "setup" in tags or source.lstrip().startswith(MARKER):
            continue
        if "check" in tags:
            given.add(number)
        here, calls = _read(source, number)
        for call in calls:
            name = call.args[0].value
            checks.pop(name, None)
            checks[name] = (number, call)
        statements += here
    found = []
    for name, (number, call) in checks.items():
        attempts = [ast.unparse(argument) for argument in call.args[1:]]
        place = (number, call.lineno)
        wanted = sorted(_names("\n".join(attempts))[0])
        bindings = [statement for each in wanted for statement in _last_binding(statements, each, place)]
        asked_for = [each for each in bindings if _written(each, given)]
        if not asked_for or any(map(_is_stub, asked_for)):
            continue
        chosen = _with_needs(statements, wanted, place)
        own = {statement.cell for statement in asked_for}
        parts = {True: [], False: []}
        for statement in chosen:
            parts[statement.cell in own and not _is_future(statement)].append(statement.text)
        found.append({"exercise": name, "solution": "\n\n".join(parts[True]), "needs": parts[False],
                      "attempts": attempts})  # fmt: skip
    return found


def _read(source, number):
    """([Statement, ...], [call of check, ...]) of a cell; nothing of one that is no Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        plain = TransformerManager().transform_cell(_TIMED.sub(lambda match: match[1] or "", source))
        tree = ast.parse(plain)
        symtable.symtable(plain, "<cell>", "exec")  # refuses what the parser lets through
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], []
    lines, aliases = plain.split("\n"), {"check"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "shared.exercises":
            aliases |= {each.asname for each in node.names if each.name == "check" and each.asname}
    firsts = [min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]) for node in tree.body]
    taken = Counter(line for node, first in zip(tree.body, firsts) for line in range(first, node.end_lineno + 1))
    found = []
    for node, first in zip(tree.body, firsts):
        alone = all(taken[line] == 1 for line in range(first, node.end_lineno + 1))
        text = "\n".join(lines[first - 1 : node.end_lineno]) if alone else ast.unparse(node)
        reads, later, bound = map(frozenset, _names(text))
        if bound and not any(_is_check(each, aliases) for each in ast.walk(node)):
            found.append(Statement(number, node.lineno, text, bound, reads, later, node))
    return found, [node for node in ast.walk(tree) if _is_check(node, aliases)]


def _is_check(node, aliases):
    """Whether a node is check("2.1", ...), also under another name or as exercises.check."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return False
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return called in aliases and isinstance(node.args[0].value, str)


def _names(text):
    """(global names that Python reads when it runs the text, those that its functions read, names that it binds)."""
    top = symtable.symtable(text, "<cell>", "exec")
    reads = {name.get_name() for name in top.get_symbols() if name.is_referenced()}
    bound = {name.get_name() for name in top.get_symbols() if name.is_assigned() or name.is_imported()}
    later, scopes = set(), list(top.get_children())
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        for name in scope.get_symbols():
            if name.is_global() and (name.is_referenced() or name.is_assigned()):
                later.add(name.get_name())
            if name.is_declared_global() and name.is_assigned():
                bound.add(name.get_name())
    for node in ast.parse(text).body:
        changed = _changed(node)
        reads |= changed
        bound |= changed
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            bound.add("*")
        if isinstance(node, ast.Delete):
            bound -= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return reads, later, bound


def _changed(node):
    """Names of objects that a statement changes in place: things["a"] = 1, things.append(1), things += 1."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        targets = [called] if isinstance(called, ast.Attribute) and called.attr in _MUTATORS else []
    names = set()
    for target in targets:
        if isinstance(target, ast.Name) and isinstance(node, ast.AugAssign):
            names.add(target.id)
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
            if isinstance(target, ast.Name):
                names.add(target.id)
    return names


def _last_binding(statements, name, before):
    """The last statement that binds a name before a place (cell, line), else the first one after it; as a list."""
    earlier = [each for each in statements if name in each.bound and (each.cell, each.line) < before]
    return earlier[-1:] or [each for each in statements if name in each.bound and (each.cell, each.line) >= before][:1]


def _with_needs(statements, wanted, check):
    """The statements that some names need, directly or not, in the notebook's order, for a check at a place."""
    chosen, looked_up, wanted = {}, set(), [(name, check) for name in wanted]
    for statement in statements:  # of these, nobody knows what they bind
        if "*" in statement.bound or _is_future(statement):
            chosen[(statement.cell, statement.line, statement.text)] = statement
    while wanted:
        name, before = wanted.pop()
        if (name, before) in looked_up:
            continue
        looked_up.add((name, before))
        for statement in _last_binding(statements, name, before):
            place = (statement.cell, statement.line)
            chosen[(*place, statement.text)] = statement
            # What it reads when it runs was bound before it; what its functions read, before they are called.
            wanted += [(each, place) for each in statement.reads]
            for each in statement.reads_later - statement.reads:
                itself = _last_binding(statements, each, check) == [statement]    # it changes a global name
                wanted.append((each, place if itself else check))
    ordered = [chosen[key] for key in sorted(chosen, key=lambda key: key[:2])]
    return sorted(ordered, key=lambda each: not _is_future(each))  # these must come first


def _is_future(statement):
    return isinstance(statement.node, ast.ImportFrom) and statement.node.module == "__future__"


def _written(statement, given):
    """Whether a statement is the learner's: no import, and of the course's own cells with a check only a definition."""
    if isinstance(statement.node, ast.Import | ast.ImportFrom):
        return False
    return statement.cell not in given or isinstance(statement.node, ast.FunctionDef | ast.ClassDef)


def _is_stub(statement):
    """Whether all functions that a statement defines are as the course gives them: nothing but a refusal."""
    functions = [each for each in ast.walk(statement.node) if isinstance(each, ast.FunctionDef)]
    return bool(functions) and all(map(_refuses, functions))


def _refuses(function):
    body = [each for each in function.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    if len(body) != 1 or not isinstance(body[0], ast.Raise) or not isinstance(body[0].exc, ast.Call):
        return False
    call = body[0].exc
    return (getattr(call.func, "id", "") == "NotImplementedError" and len(call.args) == 1
            and str(getattr(call.args[0], "value", "")).startswith("exercise "))  # fmt: skip
