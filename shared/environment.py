"""Gives the course a Python that has everything in requirements.txt, or says in one message what to do.

Standard library only, because it runs before anything is installed. Run as a script (`PYTHON -I environment.py`) it
prints what that PYTHON lacks: that is how the Python you start asks another one.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(os.path.abspath(__file__)).parent.parent    # not resolve(): Windows drives would turn into network paths
REQUIREMENTS = ROOT / "requirements.txt"
OLDEST_PYTHON = (3, 11)
FRESH_INSTALL_GB = 3
STAMP = ".course-stamp"    # in the environment: hash of the requirements.txt that was installed completely
LOCK = ".course-lock"      # in the environment: process id of the launcher that is working on it, or of its pip

# Settings that would make a child's Python or pip look in, or install into, another place than its own environment.
LEADS_ASTRAY = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONUSERBASE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV",
                "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")

# Defaults for JupyterLab: no windowing, under which long notebooks jump while scrolling; no question about news.
LAB_DEFAULTS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}

PIP_FAILURES = (
    (r"No space left on device|Errno 28|WinError 112|not enough space on the disk",
     f"The disk is full: the packages take about {FRESH_INSTALL_GB} GB (8 with the torch for NVIDIA GPUs), and pip "
     "needs room for its temporary files too (TMPDIR moves those). Make room, then repeat the command."),
    (r"NewConnectionError|name resolution|getaddrinfo failed|Max retries exceeded|ConnectTimeout|Read timed out"
     r"|ProxyError|Could not find a version|No matching distribution",
     "pip could not get a package: no network, or the package index has none for this Python and system.\n"
     "Check the network (behind a proxy: HTTPS_PROXY; another index: PIP_INDEX_URL), then repeat the command: it can "
     "be retried at any time, and what was downloaded completely is kept."),
)


class EnvironmentProblem(Exception):
    """The environment cannot be had. The message says why and which command or setting helps."""


def say(text):
    """Print at once: children write to the same terminal, and the order should tell the story."""
    print(text, flush=True)


# ---- What is there -----------------------------------------------------------------------------------------------

def pins(text):
    """{name: pinned version, or "" for any} of the lines of a requirements file."""
    lines = [re.split(r"[#;]", line)[0].strip() for line in text.splitlines()]
    pairs = [line.partition("==") for line in lines if line and not line.startswith("-")]
    return {re.split(r"[^\w.-]", name.strip())[0]: version.strip() for name, _, version in pairs}


def unmet():
    """{name: [pinned, installed or None]} of the requirements that the running Python does not satisfy."""
    def plain(version):    # "2.13.0+cpu" is a build of 2.13.0, and 1.0 is 1.0.0
        return re.sub(r"(\.0)+$", "", version.partition("+")[0].lower())

    lacking = {}
    for name, pinned in pins(REQUIREMENTS.read_text(encoding="utf-8")).items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed is None or (pinned and plain(installed) != plain(pinned)):
            lacking[name] = [pinned, installed]
    return lacking


def ask(python):
    """What `python` says of itself: {"version", "pip", "unmet"}, or None if it cannot even start."""
    try:
        reply = subprocess.run([str(python), "-I", os.path.abspath(__file__)], env=clean_environment(),
                               capture_output=True, encoding="utf-8", timeout=120)
        return json.loads(reply.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def on_colab():
    """Is this Google Colab, whose own packages must not be replaced?"""
    try:
        if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
            return True
        return importlib.util.find_spec("google.colab") is not None
    except ImportError:    # there is no package `google` at all
        return False


def in_active_environment():
    """Does the running Python belong to a virtual environment (venv, virtualenv, uv, conda) that someone activated?"""
    conda = os.environ.get("CONDA_PREFIX")
    return sys.prefix != sys.base_prefix or (bool(conda) and Path(conda).resolve() == Path(sys.prefix).resolve())


def chosen_folder():
    """The environment folder that serves the course, or None where the running Python does as it is."""
    if os.environ.get("COURSE_VENV"):
        return Path(os.path.abspath(ROOT / os.path.expanduser(os.environ["COURSE_VENV"])))
    if on_colab() or (in_active_environment() and not unmet()):
        return None
    return ROOT / ".venv"


def python_in(folder):
    """The interpreter of an environment folder, whether it exists or not."""
    if os.name != "nt":
        return folder / "bin" / "python"
    conda = folder / "python.exe"
    return conda if conda.exists() else folder / "Scripts" / "python.exe"


def is_ready(folder, state):
    """Was this requirements.txt installed completely, and is nothing gone since?

    A package in another version counts as there: whoever changed it later had a reason (doctor mentions it).
    """
    return (_usable(state) and _read(folder / STAMP) == _wanted_stamp()
            and all(installed for _, installed in state["unmet"].values()))


def _usable(state):
    return state is not None and tuple(state["version"]) >= OLDEST_PYTHON


def _wanted_stamp():
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def _read(path):
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


# ---- Settings for children ---------------------------------------------------------------------------------------

def clean_environment():
    """The environment variables without those that lead a Python astray, for pip and venv."""
    # PIP_USER=0 rather than nothing: it also overrules `user = true` in a pip configuration file.
    return {**{key: value for key, value in os.environ.items() if key not in LEADS_ASTRAY}, "PIP_USER": "0"}


def course_environment(python):
    """The environment variables for running the course with `python`: as if its environment had been activated."""
    if Path(python) == Path(sys.executable):
        settings = dict(os.environ)
    else:
        scripts = Path(python).parent    # on the PATH, so that `!pip` and `!python` in a cell mean this environment
        settings = {**clean_environment(), "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    settings.pop("PYTHONOPTIMIZE", None)    # without assertions, the notebooks' checks would check nothing
    return settings


# ---- Making it so ------------------------------------------------------------------------------------------------

def python_for_course():
    """The Python to run the course with. Creates .venv and installs requirements.txt into it if that is needed."""
    folder = chosen_folder()
    if folder is None:
        return Path(sys.executable)
    if not is_ready(folder, ask(python_in(folder))):
        with only_one_launcher(folder):
            _prepare(folder)
    return python_in(folder)


def _prepare(folder):
    """Build the environment if there is none that works, install what is missing, and stamp it."""
    python, state = python_in(folder), ask(python_in(folder))
    if is_ready(folder, state):    # another launcher did it while this one waited
        return
    contents = [entry for entry in folder.iterdir() if entry.name != LOCK]
    # Only what is certainly the course's may be thrown away or given settings: not a folder that somebody else filled.
    ours = not contents or (folder == ROOT / ".venv" and not folder.is_symlink())
    if not _usable(state) or (state["unmet"] and not state["pip"]):
        if not ours:
            raise EnvironmentProblem(f"{folder} holds no working environment with pip and Python 3.11 or newer. "
                                     "Delete it, or set COURSE_VENV to another folder.")
        if contents:
            say(f"{folder} is half-made, broken or has a Python that is too old: it is built anew.")
        _build(folder, contents)
        state = ask(python)
    if state["unmet"]:
        (folder / STAMP).unlink(missing_ok=True)    # until pip is through, it would be a lie
        _install(python, folder / LOCK)
    if ours:
        settings = folder / "share" / "jupyter" / "lab" / "settings"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "overrides.json").write_text(json.dumps(LAB_DEFAULTS, indent=2) + "\n", encoding="utf-8")
    (folder / STAMP).write_text(_wanted_stamp() + "\n", encoding="utf-8")


def _build(folder, contents):
    """Create an empty virtual environment with pip in `folder`; on failure nothing of it stays."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise EnvironmentProblem(_no_ensurepip(f"that Python has no module {module}"))
    free = shutil.disk_usage(folder).free / 1e9
    if free < FRESH_INSTALL_GB:
        raise EnvironmentProblem(f"Only {free:.1f} GB are free on the disk of {folder}; the packages take about "
                                 f"{FRESH_INSTALL_GB} GB (8 with the torch for NVIDIA GPUs). Make room, or set "
                                 "COURSE_VENV to a folder on another disk.")
    _remove(contents)
    say(f"Creating the course's environment in {folder}")
    base_python = getattr(sys, "_base_executable", None) or sys.executable    # the running one may lie in `folder`
    made = subprocess.run([base_python, "-m", "venv", str(folder)], env=clean_environment(), encoding="utf-8",
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    state = ask(python_in(folder))
    if made.returncode or state is None or not state["pip"]:
        _remove(entry for entry in folder.iterdir() if entry.name != LOCK)
        if "ensurepip" in made.stdout:
            raise EnvironmentProblem(_no_ensurepip("it cannot put pip into a new environment"))
        raise EnvironmentProblem(f"`{base_python} -m venv {folder}` failed:\n{made.stdout.strip()}\n"
                                 "Repair that Python, or start with another one, or set COURSE_VENV to an environment.")


def _no_ensurepip(what):
    return (f"The environment cannot be made with {sys.executable}: {what}. On Debian and Ubuntu this helps:\n"
            f"    sudo apt install python3-venv        (or python{_dotted(sys.version_info[:2])}-venv)\n"
            "Then repeat the command.")


def _install(python, lock):
    """Run pip; its progress goes to the terminal, its complaints there and into the message if it fails."""
    say(f"Installing the packages of {REQUIREMENTS.name}: minutes the first time")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    complaints = deque(maxlen=400)
    with subprocess.Popen(command, env=clean_environment(), cwd=ROOT, stderr=subprocess.PIPE,
                          encoding="utf-8", errors="replace") as pip:
        # If the launcher alone is killed, pip goes on: the next launcher has to wait for it, as for a living one.
        lock.write_text(str(pip.pid), encoding="utf-8")
        for line in pip.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            complaints.append(line)
    lock.write_text(str(os.getpid()), encoding="utf-8")
    state = ask(python) or {"unmet": {"(Python does not start)": None}}
    if pip.returncode == 0 and not state["unmet"]:
        return
    text = "".join(complaints)
    for pattern, message in PIP_FAILURES:
        if re.search(pattern, text):
            raise EnvironmentProblem(message)
    last = "".join(list(complaints)[-15:]).strip() or f"(none; still missing: {', '.join(state['unmet'])})"
    raise EnvironmentProblem(f"pip could not install {REQUIREMENTS.name}. Its last lines:\n{last}\n"
                             "Nothing is marked as finished: repeat the command once the cause is gone.")


def _remove(entries):
    for entry in entries:
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except OSError as error:
            raise EnvironmentProblem(f"{entry} cannot be removed ({error}). Close what uses it (a running "
                                     "JupyterLab?), then repeat the command.") from None


def _dotted(version):
    return ".".join(map(str, version))


# ---- One at a time -----------------------------------------------------------------------------------------------

@contextmanager
def only_one_launcher(folder):
    """Hold the lock file of `folder`, creating the folder if need be; wait while a living launcher holds it."""
    lock, told = folder / LOCK, False
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileNotFoundError:    # the launcher before failed and tidied the folder away this very moment
            continue
        except OSError as error:
            if folder.is_file() or not (isinstance(error, FileExistsError) or lock.exists()):
                raise EnvironmentProblem(f"The environment cannot be put into {folder} ({error.strerror}). Set "
                                         "COURSE_VENV to a folder that you may write to.") from None
        owner = _read(lock)
        if not _alive(owner, lock):
            lock.unlink(missing_ok=True)
            continue
        if not told:
            say(f"Another launcher (process {owner}) is preparing {folder}: waiting for it. "
                f"If there is none, delete {lock}")
            told = True
        time.sleep(0.3)
    os.write(handle, str(os.getpid()).encode())
    os.close(handle)    # Windows cannot delete an open file
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        with suppress(OSError):    # only an empty folder goes: nothing was made
            folder.rmdir()


def _alive(owner, lock):
    """Does the process that wrote its id into the lock file still run?"""
    if not owner.isdigit():    # its owner may be about to write the id
        with suppress(OSError):
            return time.time() - lock.stat().st_mtime < 10
        return True    # gone meanwhile: the next look decides
    if os.name == "nt":    # there, os.kill(pid, 0) would send Ctrl-C
        listing = subprocess.run(["tasklist", "/NH", "/FO", "CSV", "/FI", f"PID eq {owner}"], capture_output=True)
        return f'"{owner}"'.encode() in listing.stdout
    try:
        os.kill(int(owner), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    print(json.dumps({"version": sys.version_info[:2], "pip": importlib.util.find_spec("pip") is not None,
                      "unmet": unmet()}))
