"""README, workflows and the house as a whole."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from shared.course import ROOT, chapter_notebook, chapters, notebooks
from shared.environment import OLDEST_PYTHON
from shared.tests.limits import HANGS
from shared.tests.mutate import FAULTS, with_fault

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", README, flags=re.S) for line in block.strip().splitlines()]

# How each command of the README is tested. A command that stands in the README and not here fails the test below.
TESTED_BY = {
    "python3 -m shared lab": "test_browser.py and test_launcher.py start it and open a notebook",
    "python3 -m shared test": "it is what runs this test; test_launcher.py runs its steps",
    "python3 -m shared doctor": "test_commands_of_the_readme",
    "python3 -m shared notebooks --run ch02_text_data/ch02.ipynb": "test_run_stores_outputs",
    "python3 -m shared carry": "test_commands_of_the_readme",
    "python3 -m shared progress": "test_commands_of_the_readme; test_study.py has what it says",
    "python3 -m shared verify handed-in": "test_record_and_verify; test_records.py has what it says",
    "python3 -m shared bench": "test_bench.py runs its parts and its options",
    "python3 -m shared figures ch06_classification/ch06.ipynb": "test_figures.py runs it on a small notebook",
}


def shared_command(*words):
    command = [sys.executable, "-m", "shared", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)


def test_every_command_of_the_readme_is_tested():
    assert set(COMMANDS) == set(TESTED_BY)


@pytest.mark.parametrize("command", ["doctor", "carry", "progress"])
def test_commands_of_the_readme(command):
    assert f"python3 -m shared {command}" in COMMANDS
    result = shared_command(command)
    assert result.returncode == 0, result.stdout + result.stderr
    if command == "doctor":
        for word in ("requirements.txt", "the-verdict.txt", "GB", "Nothing is missing."):
            assert word in result.stdout


def test_record_and_verify(tmp_path):
    """A class of one that has not begun: a page, and a table with its row."""
    page = tmp_path / "handed-in" / "ada.html"
    made = shared_command("record", str(page), "--name", "Ada")
    assert made.returncode == 0 and f"{page}: 0 solutions" in made.stdout, made.stderr
    verified = shared_command("verify", str(page.parent))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    rows = (page.parent / "verified.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2 and rows[1].startswith("ada.html,Ada,2")


def test_run_stores_outputs(tmp_path):
    """``notebooks --run`` on a copy of a small notebook: outputs and counts come from the run."""
    import json

    source = json.loads((ROOT / "ch02_text_data" / "solutions.ipynb").read_text(encoding="utf-8"))
    source["cells"] = source["cells"][:2]
    cell = {"cell_type": "code", "id": "sum", "metadata": {}, "source": "print(1 + 1)"}
    source["cells"].append({**cell, "execution_count": None, "outputs": []})
    # Inside the course, because the setup cell looks for it from the notebook's folder upwards.
    folder = ROOT / "shared" / "tests" / "__pycache__"
    path = folder / f"{tmp_path.name}.ipynb"
    try:
        folder.mkdir(exist_ok=True)
        path.write_text(json.dumps(source), encoding="utf-8")
    except OSError as error:
        pytest.skip(f"the course's folder cannot be written ({error.strerror})")
    try:
        result = shared_command("notebooks", "--run", str(path))
        assert result.returncode == 0, result.stdout + result.stderr
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"] == [1, 2]
        assert cells[-1]["outputs"][0]["text"] == ["2\n"]
    finally:
        path.unlink(missing_ok=True)


def test_first_command_comes_within_120_words():
    before = README[: README.index("python3 -m shared test")]
    assert len(re.findall(r"[\w'-]+", before)) <= 120


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_reading_table_names_every_chapter():
    for chapter in chapters():
        assert str(chapter_notebook(chapter).relative_to(ROOT)).replace("\\", "/") in README


def test_python_version_is_the_same_everywhere():
    oldest = ".".join(map(str, OLDEST_PYTHON))
    assert f"Python {oldest} or newer" in README
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'target-version = "py{oldest.replace(".", "")}"' in project


def test_workflow_runs_the_test_command_on_three_systems_and_two_pythons():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert job["strategy"]["matrix"]["python"] == [".".join(map(str, OLDEST_PYTHON)), "3.x"]
    assert any(step.get("run") == "python -m shared test" for step in job["steps"])
    assert "python3 -m shared test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_top_level_holds_what_the_design_says():
    allowed = {
        "README.md", "LICENSE", "requirements.txt", "pyproject.toml", "shared", ".ci", ".github", ".gitignore",
        ".gitattributes", ".git", ".venv", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", "findings",
        *chapters(),
    }  # fmt: skip
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("this copy of the course is no git checkout")
    assert {name.split("/")[0] for name in tracked.stdout.splitlines()} <= allowed


def test_every_file_is_opened_with_an_encoding():
    """On Windows the default is not UTF-8. The linter's rule PLW1514 looks at every call."""
    command = [sys.executable, "-m", "ruff", "check", ".", "--no-cache"]
    command += ["--preview", "--select", "PLW1514", "--ignore-noqa"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_asking_for_help_imports_the_standard_library_only():
    """And so installs and downloads nothing."""
    command = [sys.executable, "-X", "importtime", "-m", "shared", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert result.returncode == 0 and "usage:" in result.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert "shared" in imported and "subprocess" in imported
    assert not imported & {"pip", "torch", "numpy", "requests", "pooch"}


def one_test(**settings):
    """Run a test that is quick, from the course's folder, by the command `pytest`, in a changed environment."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "shared/tests/test_project.py"]
    env = {**os.environ, **settings}
    env.pop("PYTHONPATH", None)
    command += ["-k", "test_python_version_is_the_same_everywhere"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANGS)


def test_pytest_works_by_itself_and_whatever_is_set():
    result = one_test(COURSE_SCALE="smal", COURSE_VENV="no such folder", COURSE_OFFLINE="0")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_wrong_course_data_is_said_once(tmp_path):
    result = one_test(COURSE_DATA=str(tmp_path / "nowhere"))
    text = result.stdout + result.stderr
    assert result.returncode == 2 and text.count("there is no folder") == 1 and "Traceback" not in text, text


def test_the_tests_do_not_see_the_settings_of_who_runs_them():
    assert os.environ["COURSE_OFFLINE"] == "1" and not {"COURSE_SCALE", "COURSE_VENV"} & set(os.environ)


def test_all_notebooks_are_found():
    on_disk = {p for p in ROOT.glob("*/*.ipynb") if not p.parent.name.startswith(".")}
    assert set(notebooks()) == on_disk


@pytest.mark.parametrize("chapter", sorted(FAULTS))
def test_every_fault_of_the_mutation_table_still_fits_the_code(chapter):
    """Running them takes minutes (python3 -m shared.tests.mutate); that each can still be put in is quick to see."""
    assert len(FAULTS[chapter]) >= 10
    for _, old, new in FAULTS[chapter]:
        with_fault(chapter, old, new)
