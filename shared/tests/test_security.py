"""What nobody may do with input: read it as code, hand it to a shell, unpack it anywhere, load it as pickle."""

import ast

import pytest

from shared.course import ROOT, notebooks, read_notebook
from shared.notebooks import text_of

# Where code is run from text, and whose text that is.
ALLOWED = {
    ("shared/carry.py", "exec"): "carried cells, as importing previous_chapters.py would run them",
    ("shared/carry.py", "compile"): "the same",
    ("shared/records/trial.py", "exec"): "a learner's solution, in a process of its own: what it is for",
    ("shared/records/trial.py", "eval"): "the same",
    ("shared/records/trial.py", "compile"): "the same",
}
BY_NAME = {"eval", "exec", "compile", "__import__"}
BY_ATTRIBUTE = {"system", "popen", "extractall", "unpack_archive", "literal_eval_file"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
OFFERED = [path for path in [*(ROOT / "shared").rglob("*.py"), *ROOT.glob("*/*.py")]
           if "tests" not in path.parts and ".venv" not in path.parts]  # fmt: skip


def sources():
    """[(name of the file, its Python), ...] of all that a learner or teacher runs."""
    found = [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(set(OFFERED))]
    for path in notebooks():
        code = [text_of(cell["source"]) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
        found.append((path.relative_to(ROOT).as_posix(), "\n\n".join(code)))
    return found


def faults(name, source):
    """Calls in a piece of Python that could run, unpack or load what somebody else wrote."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{name}: imports {each}" for each in modules if each.split(".")[0] in UNSAFE_MODULES)
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        called, of = getattr(node.func, "id", None), None
        if isinstance(node.func, ast.Attribute):
            called, of = node.func.attr, getattr(node.func.value, "id", None)
        if isinstance(node.func, ast.Name) and called in BY_NAME and (name, called) not in ALLOWED:
            yield f"{name}: calls {called}"
        if isinstance(node.func, ast.Attribute) and called in BY_ATTRIBUTE:
            yield f"{name}: calls {ast.unparse(node.func)}"
        if getattr(given.get("shell"), "value", False):
            yield f"{name}: gives a command to a shell"
        if of == "torch" and called == "load" and getattr(given.get("weights_only"), "value", None) is not True:
            yield f"{name}: torch.load without weights_only=True"
        if called == "load" and getattr(given.get("allow_pickle"), "value", False):
            yield f"{name}: allows pickle"
        if of == "yaml" and called not in ("safe_load", "safe_dump"):
            yield f"{name}: yaml.{called}"


def test_nothing_that_learners_or_teachers_run_does_it():
    found = [fault for name, source in sources() for fault in faults(name, source)]
    assert found == []


def test_every_exception_is_still_needed():
    calls = {(name, node.func.id) for name, source in sources() for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert set(ALLOWED) <= calls


@pytest.mark.parametrize("source", [
    "eval(x)", "exec(x)", "import pickle", "from pickle import loads", "import os\nos.system(x)",
    "subprocess.run(x, shell=True)", "torch.load(x)", "torch.load(x, weights_only=False)", "yaml.load(x)",
    "archive.extractall()", "zipfile.ZipFile(x).extractall()", "np.load(x, allow_pickle=True)", "__import__(x)",
])  # fmt: skip
def test_each_of_these_would_be_found(source):
    assert list(faults("x.py", source))


@pytest.mark.parametrize("source", ["model.eval()", "make().eval()", "torch.load(x, weights_only=True)",
                                    "yaml.safe_load(x)", "re.compile(x)", "subprocess.run([x])",
                                    "np.load(x)"])  # fmt: skip
def test_each_of_these_is_fine(source):
    assert not list(faults("x.py", source))
