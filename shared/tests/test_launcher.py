"""The commands and the environment: everything runs in a copy of the launcher, without any network.

The copy's requirements.txt names one package, a wheel written here, that contains stand-ins for jupyterlab, pytest and
ruff: so environments are really created and filled, and what would be started tells how it was started.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

import shared.__main__ as launcher
from shared import doctor
from shared.tests.limits import HANGS

SHARED = Path(launcher.__file__).resolve().parent
POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
TELL = "import json, os, sys\nprint(json.dumps({'name': NAME, 'argv': sys.argv[1:], 'prefix': sys.prefix, " \
       "'cwd': os.getcwd(), 'env': dict(os.environ)}), flush=True)\n"
STAND_INS = {
    "jupyterlab": "import time\ntry:\n    " + TELL.replace("\n", "\n    ")
                  + "time.sleep(float(os.environ.get('FAKE_SLEEP', 0)))\n"
                  "except KeyboardInterrupt:\n    print('the fake lab was interrupted', flush=True)\n    sys.exit(5)\n"
                  "sys.exit(int(os.environ.get('FAKE_LAB_STATUS', 0)))\n",
    "pytest": TELL + "print('3 passed in 0.01s', flush=True)\nsys.exit('pytest' in os.environ.get('FAKE_FAIL', ''))\n",
    "ruff": TELL + "sys.exit('ruff' in os.environ.get('FAKE_FAIL', ''))\n",
}
TELLING_MAIN = "def main(argv):\n    " + TELL.replace("sys.argv[1:]", "argv").replace("\n", "\n    ") + \
               "return int(NAME in os.environ.get('FAKE_FAIL', ''))\n"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A folder with the wheel stand_ins-1.0."""
    folder = tmp_path_factory.mktemp("wheels")
    about = "stand_ins-1.0.dist-info/"
    files = {f"{name}/__main__.py": f"NAME = {name!r}\n{text}" for name, text in STAND_INS.items()}
    files |= {f"{name}/__init__.py": "" for name in STAND_INS}
    files[about + "METADATA"] = "Metadata-Version: 2.1\nName: stand-ins\nVersion: 1.0\n"
    files[about + "WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[about + "RECORD"] = "".join(f"{name},,\n" for name in [*files, about + "RECORD"])
    with zipfile.ZipFile(folder / "stand_ins-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return folder


def make_course(root, requirements="stand-ins==1.0    # tells how it was started\n"):
    """A course folder with the launcher, one notebook, and carry and notebooks that tell how they were called."""
    (root / "shared").mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "environment.py", "doctor.py", "course.py"):
        shutil.copy(SHARED / name, root / "shared")
    for name in ("carry", "notebooks"):
        (root / "shared" / f"{name}.py").write_text(f"NAME = {name!r}\n{TELLING_MAIN}", encoding="utf-8")
    (root / "ch02_text_data").mkdir()
    (root / "ch02_text_data" / "ch02.ipynb").write_text("{}", encoding="utf-8")
    (root / "requirements.txt").write_text(requirements, encoding="utf-8")
    return root


@pytest.fixture
def course(tmp_path):
    return make_course(tmp_path / "course")


def variables(wheels, **more):
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith(("COURSE_", "PIP_", "CONDA_", "FAKE_", "VIRTUAL_ENV", "OMP_", "COLAB_"))}
    return {**kept, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull, **more}


def start(course, wheels, *words, **more):
    """Run `python3 -m shared ...` in a course folder."""
    return subprocess.run([sys.executable, "-m", "shared", *words], cwd=course, env=variables(wheels, **more),
                          capture_output=True, encoding="utf-8", timeout=HANGS)


def told(run):
    """What the stand-ins told."""
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"name"')]


@pytest.fixture(scope="module")
def built(tmp_path_factory, wheels):
    """A course whose environment the launcher has made; not to be changed. With the run that made it."""
    root = make_course(tmp_path_factory.mktemp("built") / "course")
    return root, start(root, wheels, "notebooks", "--check", PYTHONHOME="", PIP_USER="1")


@pytest.fixture
def copy(built, tmp_path):
    """A copy of that course in another place: a moved folder."""
    return Path(shutil.copytree(built[0], tmp_path / "moved", symlinks=True))


def load_environment(course):
    """The module shared/environment.py of a course folder, for looking at it from inside."""
    spec = importlib.util.spec_from_file_location(f"environment_of_{id(course)}", course / "shared" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(course, monkeypatch):
    for name in ("COURSE_VENV", "CONDA_PREFIX", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    return load_environment(course)


def stamp_of(course):
    return hashlib.sha256((course / "requirements.txt").read_bytes()).hexdigest()


def one_message(run):
    """The message of a run that must have failed with one, without a traceback."""
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    return run.stderr


# ---- The environment is made, kept and renewed ------------------------------------------------------------------

def test_first_run_creates_installs_and_stamps(built):
    root, run = built
    assert run.returncode == 0, run.stdout + run.stderr
    assert [(tell["name"], tell["argv"]) for tell in told(run)] == [("notebooks", ["--check"])]
    assert Path(told(run)[0]["prefix"]).resolve() == (root / ".venv").resolve()
    assert (root / ".venv" / ".course-stamp").read_text(encoding="utf-8").strip() == stamp_of(root)
    overrides = json.loads((root / ".venv/share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8"))
    assert overrides["@jupyterlab/notebook-extension:tracker"] == {"windowingMode": "none"}
    assert overrides["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false"}
    assert not (root / ".venv" / ".course-lock").exists()


def test_second_run_in_a_moved_folder_installs_nothing(copy, wheels, tmp_path):
    run = start(copy, tmp_path / "no wheels here", "notebooks")
    assert run.returncode == 0, run.stdout + run.stderr
    assert Path(told(run)[0]["prefix"]).resolve() == (copy / ".venv").resolve()
    assert "Installing" not in run.stdout and "Creating" not in run.stdout


def test_a_change_of_a_comment_needs_no_pip(copy, wheels):
    (copy / "requirements.txt").write_text("# new comment\nstand-ins==1.0.0\n", encoding="utf-8")
    run = start(copy, wheels, "notebooks")
    assert run.returncode == 0 and "Installing" not in run.stdout
    assert (copy / ".venv" / ".course-stamp").read_text(encoding="utf-8").strip() == stamp_of(copy)


def test_a_package_that_is_gone_is_installed_again(copy, wheels):
    for folder in (copy / ".venv").rglob("stand_ins-1.0.dist-info"):
        shutil.rmtree(folder)
    run = start(copy, wheels, "notebooks")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Installing" in run.stdout and list((copy / ".venv").rglob("stand_ins-1.0.dist-info"))


def test_without_the_package_there_is_no_stamp_and_advice(copy, wheels):
    (copy / "requirements.txt").write_text("stand-ins==2.0\n", encoding="utf-8")
    message = one_message(start(copy, wheels, "notebooks"))
    assert "no network" in message and "repeat the command" in message
    assert not (copy / ".venv" / ".course-stamp").exists()
    assert not (copy / ".venv" / ".course-lock").exists()


def test_a_half_made_environment_is_built_anew(course, wheels):
    (course / ".venv" / "lib").mkdir(parents=True)
    (course / ".venv" / "pyvenv.cfg").write_text("home = /nowhere\n", encoding="utf-8")
    run = start(course, wheels, "notebooks")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "half-made" in run.stdout and "nowhere" not in (course / ".venv" / "pyvenv.cfg").read_text(encoding="utf-8")


def test_a_folder_of_somebody_else_is_left_alone(course, wheels):
    (course / "mine").mkdir()
    (course / "mine" / "thesis.txt").write_text("dear", encoding="utf-8")
    message = one_message(start(course, wheels, "notebooks", COURSE_VENV="mine"))
    assert "COURSE_VENV" in message
    assert [path.name for path in (course / "mine").iterdir()] == ["thesis.txt"]
    (course / "file").write_text("", encoding="utf-8")
    assert "COURSE_VENV" in one_message(start(course, wheels, "notebooks", COURSE_VENV="file"))
    assert not (course / ".venv").exists()


def test_course_venv_names_the_environment(copy, wheels):
    (copy / ".venv").rename(copy / "elsewhere")
    run = start(copy, wheels, "notebooks", COURSE_VENV="elsewhere")
    assert Path(told(run)[0]["prefix"]).resolve() == (copy / "elsewhere").resolve()
    assert not (copy / ".venv").exists()


# ---- What can go wrong -----------------------------------------------------------------------------------------

def test_no_ensurepip_is_seen_before_anything_is_made(environment, course, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find_spec(name))
    with pytest.raises(environment.EnvironmentProblem, match="sudo apt install python3-venv"):
        environment.python_for_course()
    assert not (course / ".venv").exists()


def test_venv_that_fails_half_way_leaves_nothing(environment, course, monkeypatch):
    def fails(command, **kwargs):
        if "venv" not in command:
            raise FileNotFoundError(command[0])
        (course / ".venv" / "bin").mkdir()
        (course / ".venv" / "pyvenv.cfg").write_text("home = somewhere\n", encoding="utf-8")
        return subprocess.CompletedProcess(command, 1, stdout="not created because ensurepip is not available")

    monkeypatch.setattr(environment.subprocess, "run", fails)
    with pytest.raises(environment.EnvironmentProblem, match="sudo apt install python3-venv"):
        environment.python_for_course()
    assert not (course / ".venv").exists()


def test_too_little_disk_is_said_before_anything_is_made(environment, course, monkeypatch):
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1.2e9))
    with pytest.raises(environment.EnvironmentProblem, match=r"Only 1\.2 GB are free.*3 GB.*COURSE_VENV"):
        environment.python_for_course()
    assert not (course / ".venv").exists()


@pytest.mark.parametrize("complaint, advice", [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
    ("WARNING: Retrying after connection broken by 'NewConnectionError(Name or service not known)'", "no network"),
    ("error: metadata-generation-failed", "Its last lines:\nerror: metadata-generation-failed"),
])
def test_pip_failures_become_advice(environment, tmp_path, monkeypatch, complaint, advice):
    fake_pip = tmp_path / "modules" / "pip"
    fake_pip.mkdir(parents=True)
    (fake_pip / "__init__.py").touch()
    (fake_pip / "__main__.py").write_text(f"import sys\nsys.exit({complaint!r})\n", encoding="utf-8")
    monkeypatch.setattr(environment, "clean_environment", lambda: {**os.environ, "PYTHONPATH": str(fake_pip.parent)})
    with pytest.raises(environment.EnvironmentProblem) as caught:
        environment._install(sys.executable, tmp_path / "lock")
    assert advice in str(caught.value) and "repeat the command" in str(caught.value)


def test_a_pip_that_installs_elsewhere_is_noticed(environment, tmp_path, monkeypatch):
    fake_pip = tmp_path / "modules" / "pip"
    fake_pip.mkdir(parents=True)
    (fake_pip / "__init__.py").touch()
    (fake_pip / "__main__.py").touch()    # ends well, does nothing
    monkeypatch.setattr(environment, "clean_environment", lambda: {**os.environ, "PYTHONPATH": str(fake_pip.parent)})
    with pytest.raises(environment.EnvironmentProblem, match="still missing: stand-ins"):
        environment._install(sys.executable, tmp_path / "lock")


def test_children_of_pip_see_nothing_that_leads_astray(environment, monkeypatch):
    for name in environment.LEADS_ASTRAY:
        monkeypatch.setenv(name, "astray")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    clean = environment.clean_environment()
    assert "astray" not in clean.values() and clean["PIP_INDEX_URL"] == "kept" and clean["PIP_USER"] == "0"


def test_python_that_is_too_old_gets_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 14, "final", 0))
    monkeypatch.setitem(launcher.COMMANDS, "carry", lambda options: pytest.fail("went on"))
    assert launcher.main(["carry"]) == 1
    message = capsys.readouterr().err
    assert "Python 3.11 or newer" in message and "3.10.14" in message and message.count("\n") == 1


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_python_3_8_can_read_what_refuses_it(name):
    ast.parse((SHARED / name).read_text(encoding="utf-8"), feature_version=(3, 8))


# ---- One at a time ---------------------------------------------------------------------------------------------

def test_lock_of_a_dead_launcher_is_taken_over(environment, course):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (course / ".venv").mkdir()
    lock = course / ".venv" / ".course-lock"
    lock.write_text(str(dead.pid), encoding="utf-8")
    with environment.only_one_launcher(course / ".venv"):
        assert lock.read_text(encoding="utf-8") == str(os.getpid())
    assert not (course / ".venv").exists()    # nothing was made, so nothing stays


def test_while_pip_runs_the_lock_is_its_own(environment, tmp_path, monkeypatch):
    """So that a pip whose launcher was killed is waited for, and not joined by a second one in the same folder."""
    fake_pip = tmp_path / "modules" / "pip"
    fake_pip.mkdir(parents=True)
    (fake_pip / "__init__.py").touch()
    lock, seen = tmp_path / "lock", tmp_path / "seen"
    # It waits until the launcher has written its number, and fails if that never comes.
    (fake_pip / "__main__.py").write_text(f"""
import os, pathlib, time
lock = pathlib.Path({str(lock)!r})
for _ in range(3_000):
    if lock.exists() and lock.read_text() == str(os.getpid()):
        pathlib.Path({str(seen)!r}).touch()
        break
    time.sleep(0.01)
""", encoding="utf-8")
    monkeypatch.setattr(environment, "clean_environment", lambda: {**os.environ, "PYTHONPATH": str(fake_pip.parent)})
    with pytest.raises(environment.EnvironmentProblem, match="still missing"):
        environment._install(sys.executable, lock)
    assert seen.exists()
    assert lock.read_text(encoding="utf-8") == str(os.getpid())    # pip is through: the launcher's again


@pytest.mark.parametrize("content", [str(os.getpid()), ""], ids=["process id", "not yet written"])
def test_lock_of_a_living_launcher_is_waited_for(environment, course, capsys, monkeypatch, content):
    lock = course / ".venv" / ".course-lock"
    lock.parent.mkdir()
    lock.write_text(content, encoding="utf-8")
    waits = []

    def wait(seconds):
        """In place of time.sleep: the other launcher is done when this one has waited three times."""
        waits.append(seconds)
        if len(waits) == 3:
            lock.unlink()

    monkeypatch.setattr(environment.time, "sleep", wait)
    with environment.only_one_launcher(course / ".venv"):
        assert len(waits) == 3
    assert "waiting for it" in capsys.readouterr().out


# ---- Which Python ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("active", ["venv", "conda"])
def test_active_environment_that_has_everything_is_used_as_it_is(environment, course, monkeypatch, active):
    (course / "requirements.txt").write_text(f"pytest=={pytest.__version__}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "base_prefix", "/usr" if active == "venv" else sys.prefix)
    monkeypatch.setenv("CONDA_PREFIX", sys.prefix if active == "conda" else "")
    assert environment.python_for_course() == Path(sys.executable)
    assert not (course / ".venv").exists()


def test_other_pythons_are_not_used_as_they_are(environment, course, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    (course / "requirements.txt").write_text("pytest==0.0.1\n", encoding="utf-8")
    assert environment.chosen_folder() == course / ".venv"    # active, but another version
    (course / "requirements.txt").write_text(f"pytest=={pytest.__version__}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setenv("CONDA_PREFIX", "/somewhere/else")
    assert environment.chosen_folder() == course / ".venv"    # has everything, but is no environment


def test_pins_are_read_and_compared_as_pip_does(environment, course, monkeypatch):
    text = "a==1.0  # why\n\n# b==2\n-r other.txt\nc[extra]==2.13.0 ; python_version > '3'\nd\ne==1\n"
    assert environment.pins(text) == {"a": "1.0", "c": "2.13.0", "d": "", "e": "1"}
    (course / "requirements.txt").write_text(text, encoding="utf-8")
    installed = {"a": "1.0.0", "c": "2.13.0+cpu", "d": "7", "e": "1.1"}
    monkeypatch.setattr(environment.importlib.metadata, "version", installed.get)
    assert environment.unmet() == {"e": ["1", "1.1"]}


@pytest.mark.parametrize("sign", ["package", "variable"])
def test_on_colab_nothing_is_created(course, wheels, tmp_path, sign):
    more = {"COLAB_RELEASE_TAG": "release"}
    if sign == "package":
        (tmp_path / "fake" / "google" / "colab").mkdir(parents=True)
        (tmp_path / "fake" / "google" / "colab" / "__init__.py").touch()
        more = {"PYTHONPATH": str(tmp_path / "fake")}
    run = start(course, wheels, "notebooks", "--check", **more)
    assert run.returncode == 0 and Path(told(run)[0]["prefix"]) == Path(sys.prefix)
    assert "Colab" in one_message(start(course, wheels, "lab", **more))
    assert not (course / ".venv").exists()


# ---- The commands ----------------------------------------------------------------------------------------------

def test_help_names_every_command_and_setting(capsys):
    assert launcher.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in launcher.COMMANDS)
    named = set(re.findall(r"^  (COURSE_\w+) ", text, flags=re.M))
    assert named == set(doctor.SETTINGS) - {"COURSE_ADDRESS"}    # that is Colab's
    assert launcher.main([]) == 2
    assert capsys.readouterr().out == text


def test_unknown_command(capsys):
    assert launcher.main(["labb"]) == 2
    assert capsys.readouterr().err.startswith("unknown command: labb\n")


def test_lab_passes_everything_on(built, wheels, tmp_path):
    root, _ = built
    run = subprocess.run([sys.executable, str(root / "shared"), "lab", "--no-browser", "--port", "9000"], cwd=tmp_path,
                         env=variables(wheels, FAKE_LAB_STATUS="7", PYTHONPATH="astray"), capture_output=True,
                         encoding="utf-8", timeout=HANGS)
    assert run.returncode == 7, run.stdout + run.stderr
    (lab,) = told(run)
    assert lab["name"] == "jupyterlab" and Path(lab["cwd"]).samefile(root) and "PYTHONPATH" not in lab["env"]
    assert lab["argv"] == [f"--ServerApp.root_dir={root}", "--ServerApp.ip=127.0.0.1",
                           "--LabApp.default_url=/lab/tree/ch02_text_data/ch02.ipynb", "--no-browser", "--port", "9000"]
    assert Path(lab["env"]["PATH"].split(os.pathsep)[0]).parent.samefile(root / ".venv")
    assert "token" not in " ".join(lab["argv"])


def test_lab_opens_the_notebook_that_is_named(copy, wheels):
    (copy / "ch03_attention").mkdir()
    (copy / "ch03_attention" / "ch03.ipynb").write_text("{}", encoding="utf-8")
    (copy / "ch02_text_data" / "ch02.ipynb").unlink()
    (lab,) = told(start(copy, wheels, "lab", "ch03_attention/ch03.ipynb", "--ip=0.0.0.0"))
    assert lab["argv"][1:] == ["--LabApp.default_url=/lab/tree/ch03_attention/ch03.ipynb", "--ip=0.0.0.0"]
    (lab,) = told(start(copy, wheels, "lab"))
    assert lab["argv"][1:] == ["--ServerApp.ip=127.0.0.1"]    # the first notebook is not there


@POSIX_ONLY
@pytest.mark.parametrize("kind, status, sign", [("Ctrl-C", 5, "interrupted"), ("terminate", 143, "")])
def test_lab_ends_with_its_launcher(built, wheels, kind, status, sign):
    process = subprocess.Popen([sys.executable, "-m", "shared", "lab"], cwd=built[0], encoding="utf-8",
                               env=variables(wheels, FAKE_SLEEP="100000"), stdout=subprocess.PIPE,
                               start_new_session=True)
    while not (line := process.stdout.readline()).startswith('{"name"'):
        assert line, "it ended too early"
    if kind == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)    # as a terminal does: to the launcher and to the lab
    else:
        process.terminate()
    rest, _ = process.communicate(timeout=HANGS)    # reads to the end: nobody holds the pipe any more
    assert process.returncode == status and sign in rest


def test_test_runs_every_step_though_the_first_fails(built, wheels):
    run = start(built[0], wheels, "test", FAKE_FAIL="ruff", COURSE_DATA="mine", MPLBACKEND="Agg", COURSE_OFFLINE="0")
    assert run.returncode == 1, run.stdout + run.stderr
    ruff, carry, notebooks, tests, nbval = told(run)
    assert (ruff["name"], ruff["argv"]) == ("ruff", ["check", "."])
    assert (carry["name"], carry["argv"]) == ("carry", ["--check"])
    assert (notebooks["name"], notebooks["argv"]) == ("notebooks", ["--check"])
    assert tests["argv"] == "shared/tests -n 2 --dist loadfile --no-loadscope-reorder -q".split()
    assert tests["env"]["COURSE_DATA"] == "mine" and tests["env"]["COURSE_OFFLINE"] == "1"
    assert nbval["argv"] == ("-p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 "
                             "--nbval-sanitize-with=shared/tests/nbval.cfg -n 2 --dist loadfile "
                             "--no-loadscope-reorder -q").split() + \
        [os.path.join("ch02_text_data", "ch02.ipynb")]
    expected = {"COURSE_SCALE": "small", "COURSE_OFFLINE": "1", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore",
                "TQDM_DISABLE": "1"}
    assert {name: nbval["env"].get(name) for name in expected} == expected
    assert nbval["env"]["OMP_NUM_THREADS"] in ("1", "2")
    assert not {"COURSE_DATA", "MPLBACKEND", "PYTHONPATH"} & set(nbval["env"])
    last = [line for line in run.stdout.splitlines() if line][-1]
    assert last.startswith("1 of 5 steps FAILED in ") and last.endswith(": ruff")
    assert run.stdout.count("3 passed in 0.01s") == 2 and run.stdout.index("=== 1/5 ruff") < run.stdout.index("=== 5/5")


@pytest.mark.parametrize("bad, status", [("", 0), ("carry", 1), ("notebooks", 1), ("pytest", 1)])
def test_test_fails_if_and_only_if_a_step_fails(built, wheels, bad, status):
    run = start(built[0], wheels, "test", FAKE_FAIL=bad, COURSE_SCALE="full")
    begins = {"": "All passed in ", "pytest": "2 of 5 steps FAILED in "}.get(bad, "1 of 5 steps FAILED in ")
    assert run.returncode == status and run.stdout.splitlines()[-1].startswith(begins)
    assert told(run)[-1]["env"]["COURSE_SCALE"] == "full"


def test_paths_of_notebooks_count_from_where_the_user_stands(built, wheels):
    command = [sys.executable, str(built[0] / "shared"), "notebooks", "--check", "ch02.ipynb"]
    run = subprocess.run(command, cwd=built[0] / "ch02_text_data", env=variables(wheels), capture_output=True,
                         encoding="utf-8", timeout=HANGS)
    (notebooks,) = told(run)
    assert notebooks["argv"][0] == "--check"
    assert Path(notebooks["argv"][1]).samefile(built[0] / "ch02_text_data" / "ch02.ipynb")


def test_assertions_are_never_switched_off(built, wheels, monkeypatch):
    for command in ("test", "lab", "notebooks"):
        tells = told(start(built[0], wheels, command, PYTHONOPTIMIZE="1"))
        assert tells and not any("PYTHONOPTIMIZE" in tell["env"] for tell in tells if tell["name"] != "carry")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    assert "PYTHONOPTIMIZE" not in load_environment(built[0]).course_environment(sys.executable)


def test_failing_steps_mention_solved_exercises(built, wheels):
    run = start(built[0], wheels, "test", FAKE_FAIL="notebooks")
    assert "Exercises that you have solved" in run.stdout and "untouched copy" in launcher.HELP
    assert "Exercises that you have solved" not in start(built[0], wheels, "test").stdout


def test_test_without_notebooks_fails(copy, wheels):
    shutil.rmtree(copy / "ch02_text_data")
    run = start(copy, wheels, "test")
    assert run.returncode == 1 and "no notebook to run" in run.stderr and len(told(run)) == 4


def test_test_with_options_runs_only_pytest(built, wheels):
    (tests,) = told(start(built[0], wheels, "test", "-k", "launcher"))
    assert tests["argv"] == "shared/tests -n 2 --dist loadfile --no-loadscope-reorder -q -k launcher".split()
    (tests,) = told(start(built[0], wheels, "test", "shared/course.py::test_x", "-x"))
    assert tests["argv"] == "-n 2 --dist loadfile --no-loadscope-reorder -q shared/course.py::test_x -x".split()


def test_carry_needs_no_environment(course, wheels):
    run = start(course, wheels, "carry", "--check", FAKE_FAIL="carry")
    assert run.returncode == 1 and told(run)[0]["argv"] == ["--check"]
    assert not (course / ".venv").exists()


def test_starting_needs_the_standard_library_only():
    code = f"""import sys
sys.path.insert(0, {str(SHARED.parent)!r})
before = set(sys.modules)    # a virtual environment may load more at its start
import shared, shared.__main__, shared.environment, shared.doctor
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=SHARED)
    assert run.stdout.split() == ["shared"], run.stderr


# ---- The doctor ------------------------------------------------------------------------------------------------

def test_doctor_before_there_is_an_environment(course, wheels):
    run = start(course, wheels, "doctor")
    assert run.returncode == 1 and not (course / ".venv").exists()
    assert "does not exist yet. Run `python3 -m shared lab`" in run.stdout


def test_doctor_looks_from_inside_the_environment(copy, wheels):
    (copy / "requirements.txt").write_text("stand-ins==1.1\nmore-of-it==2.0\n", encoding="utf-8")
    run = start(copy, wheels, "doctor", COURSE_SCALE="smal", COURSE_DTA="x")
    assert run.returncode == 1 and f"{copy / '.venv'}" in run.stdout.splitlines()[0]
    assert "0 of 2 as in requirements.txt" in run.stdout
    assert "stand-ins: 1.0 is installed, the course was tested with 1.1" in run.stdout
    assert "PROBLEM: more-of-it 2.0 is missing. Run `python3 -m shared lab`" in run.stdout
    assert "PROBLEM: COURSE_SCALE is 'smal'" in run.stdout and "COURSE_DTA means nothing" in run.stdout


def test_doctor_finds_nothing_wrong_where_the_tests_run(wheels):
    run = start(SHARED.parent, wheels, "doctor")
    assert run.returncode == 0, run.stdout + run.stderr
    for part in ("python", "packages", "device", "memory", "disk", "settings", "data", "kernel"):
        assert f"\n{part} " in f"\n{run.stdout}", part
    assert run.stdout.endswith("Nothing is missing.\n")


def test_doctor_prints_in_any_encoding(wheels):
    settings = variables(wheels, COURSE_CACHE="caf\u00e9", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    run = subprocess.run(launcher.call_main(sys.executable, "doctor"), cwd=SHARED.parent, env=settings,
                         capture_output=True, encoding="utf-8", timeout=HANGS)
    assert "caf\\xe9" in run.stdout, run.stderr


def test_doctor_goes_on_after_a_surprise(monkeypatch, capsys):
    def device():
        raise OSError("libcudart is missing")
        yield

    for name in ("packages", "data", "kernel"):
        monkeypatch.setattr(doctor, name, types.FunctionType((lambda: iter(["fine"])).__code__, {"iter": iter}, name))
    monkeypatch.setattr(doctor, "device", device)
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert "device    PROBLEM: cannot be looked at: OSError: libcudart is missing" in out and "kernel    fine" in out
