"""Runs one solution through its check, in a process of its own with limits of time and memory and without network.

Started as a program it is that process: it reads what to run from its input and writes the verdict to its output.
These limits stop accidents and simple tricks. They are no prison: who runs other people's code on a machine with
something to lose should do it in a container or a virtual machine.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from shared.course import ROOT, chapters, short_name

SECONDS, MEGABYTES = 120, 4_000
_START_SECONDS = 600  # to import the course on a slow machine, before the learner's code begins
_POLL = 0.05


_running = set()


def stop_all():
    """End the solutions that still run."""
    for process in list(_running):
        _end(process)


def chapter_of(name):
    """The chapter whose code an exercise may use: "6.1" -> "ch06_classification". ValueError if there is none."""
    part = name.split(".")[0]
    short = "ch02" if part == "A" else short_name(part)  # appendix A's exercises stand in chapter 2
    chapter = next((each for each in chapters() if each.startswith(f"{short}_")), None)
    if chapter is None:
        raise ValueError(f"there is no chapter for exercise {name!r}")
    return chapter


def run(entry, seconds=SECONDS, megabytes=MEGABYTES):
    """Judge one solution, as ``solutions_in`` describes it: (outcome, a sentence).

    The outcome is "right", "wrong", "not written yet" or "stopped" (it took too long, or too much memory, or its
    process died).
    """
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as folder:
        # Nothing of the user's, such as a token in a variable, is passed on.
        kept = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
        settings = {name: os.environ[name] for name in kept if name in os.environ}
        places = ("HOME", "USERPROFILE", "TMPDIR", "TMP", "TEMP", "COURSE_CACHE", "MPLCONFIGDIR")
        settings |= dict.fromkeys(places, folder)
        settings |= {"COURSE_OFFLINE": "1", "COURSE_PROGRESS": "off", "COURSE_SCALE": "small", "MPLBACKEND": "agg",
                     "TQDM_DISABLE": "1", "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
                   "from shared.records.trial import main; main()"]  # fmt: skip
        task, verdict = Path(folder) / "task.json", Path(folder) / "verdict.json"
        task.write_text(json.dumps(entry), encoding="utf-8")
        process = subprocess.Popen(command, cwd=folder, env=settings, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        _running.add(process)
        try:
            return _watched(process, verdict, seconds, megabytes)
        finally:
            _end(process)
            _running.discard(process)


def _watched(process, verdict, seconds, megabytes):
    """Wait for a process that is to write a verdict, within the limits."""
    begun = verdict.with_name("begun")
    deadline, limit_runs = time.monotonic() + _START_SECONDS, False
    while process.poll() is None:
        if not limit_runs and begun.exists():
            deadline, limit_runs = time.monotonic() + seconds, True
        used = sum(map(_memory, _family(process.pid))) / 1e6
        if used > megabytes:
            return "stopped", f"It took more than {megabytes:,.0f} MB of memory."
        if time.monotonic() > deadline:
            return "stopped", f"It ran longer than {seconds:g} seconds." if limit_runs else "The course did not start."
        time.sleep(_POLL)
    try:
        outcome, detail = json.loads(verdict.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "stopped", f"Its process ended with status {process.returncode} and without a verdict."
    return str(outcome), str(detail)


def _end(process):
    """End a process and all that it started."""
    import psutil

    for each in _family(process.pid):
        with contextlib.suppress(psutil.Error):
            each.kill()
    if hasattr(os, "killpg"):    # also what it has started and left behind
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _family(process_id):
    """A process and all that it has started; nothing, if it has just ended."""
    import psutil

    try:
        return [psutil.Process(process_id), *psutil.Process(process_id).children(recursive=True)]
    except psutil.Error:
        return []


def _memory(process):
    """Bytes that a process holds in memory; 0 if it has just ended."""
    import psutil

    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


# In the process of its own ---------------------------------------------------------------------------------


def main():
    """Read task.json in the working folder, run it, write verdict.json."""
    import importlib

    from shared import assets, exercises
    from shared.carry import load_chapter

    assets.use_offline_vocabulary()
    folder = Path.cwd().resolve()
    entry = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    # As in a notebook; what only shows something shows nothing here.
    names = {**load_chapter(chapter_of(entry["exercise"])).__dict__, "__name__": "__main__",
             "display": lambda *_, **__: None, "get_ipython": lambda: None}  # fmt: skip
    checks = importlib.import_module(f"shared.exercises.{short_name(entry['exercise'].split('.')[0])}")
    # Bound here, before anybody could put something else in their place.
    judge, write, rename, dumps, leave, state_of = exercises.judge, open, os.replace, json.dumps, os._exit, _state_of
    before = state_of(exercises, checks)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    (folder / "begun").touch()
    done, starting = shut(folder)
    if hasattr(checks, "subprocess"):
        checks.subprocess = _Programs(folder, starting)
        before = state_of(exercises, checks)
    outcome, detail = _judged(entry, names, judge)
    if outcome == "right" and state_of(exercises, checks) != before:
        outcome, detail = "wrong", "The solution changed the course's checks."
    if outcome == "right" and judge(entry["exercise"], *map(_nonsense, entry["attempts"])).outcome == "right":
        outcome, detail = "wrong", "After this solution, the check accepts anything."
    done.append(True)
    with write(folder / "verdict.part", "w", encoding="utf-8") as file:
        file.write(dumps([outcome, str(detail)[:2_000]]))
    rename(folder / "verdict.part", folder / "verdict.json")
    leave(0)  # threads and exit functions of the solution do not outlive it


def _judged(entry, names, judge):
    """(outcome, detail) of a solution, whatever it does."""
    code = "\n\n".join([*entry["needs"], entry["solution"]])
    try:
        exec(compile(code, "<ipykernel solution>", "exec"), names)  # what this process is for
        attempts = [eval(expression, names) for expression in entry["attempts"]]
        verdict = judge(entry["exercise"], *attempts)
        return verdict.outcome, verdict.detail
    except ModuleNotFoundError as error:
        return "stopped", f"It imports what is not here: {error}."
    except BaseException as error:
        return "wrong", f"The solution stopped with {type(error).__name__}: {error}"


def _nonsense(attempt):
    """What no exercise asks for, in the place of an answer."""
    return lambda *_, **__: object()


def _state_of(*modules):
    """What the functions and classes of modules are, to see whether somebody has put others in their place."""
    import torch

    found = [id(getattr(torch, name)) for name in ("allclose", "equal", "isclose", "is_tensor", "tensor")]
    for module in modules:
        for name, value in sorted(vars(module).items()):
            if callable(value):
                found.append((name, id(value), id(getattr(value, "__code__", None)), sorted(vars(value))
                              if isinstance(value, type) else None))  # fmt: skip
            elif isinstance(value, dict) and not name.startswith("__"):
                found.append((name, sorted((key, id(each)) for key, each in value.items())))
    return found


def _end_with(parent):
    """End this process when the one that watches it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _Programs:
    """Stands in for the module ``subprocess`` in a check that starts a learner's program: it is shut in as well."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, folder, starting):
        self.folder, self.starting = folder, starting

    def run(self, command, **settings):
        """subprocess.run for [python, "-c", program, ...]."""
        python, option, program, *rest = command
        if python != sys.executable or option != "-c":
            raise PermissionError(f"a check starts Python programs only, not {command[0]}")
        begin = ("import torch\nfrom pathlib import Path\nfrom shared.carry import load_chapter\n"
                 f"from shared.records.trial import shut\nshut(Path({str(self.folder)!r}))\n")  # fmt: skip
        self.starting.append(True)
        try:
            return subprocess.run([python, "-c", begin + program, *rest], **settings)
        finally:
            self.starting.clear()


_NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
            "socket.gethostbyname", "socket.gethostbyaddr", "sqlite3.connect")  # fmt: skip
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
             "pty.spawn", "os.startfile", "os.kill", "os.killpg")  # fmt: skip
_CHANGES = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.chmod": 1,
            "os.chown": 1, "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1}  # fmt: skip
_LARGEST_FILE = 500_000_000  # bytes


def shut(folder):
    """From here on: no network, no other programs, no file changed outside the folder, and no verdict written.

    It cannot be taken back. Two lists are returned: the first is to be filled when the verdict may be written, the
    second while a program may be started.
    """
    own, done, starting = f"{folder}{os.sep}", [], []
    real, decode, base, nowhere, slash = os.path.realpath, os.fsdecode, os.path.basename, os.devnull, os.sep
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def outside(path):
        if isinstance(path, int) or path is None:
            return False
        path = real(decode(path))
        ours = base(path).startswith("verdict") or base(path) == "begun"
        return not f"{path}{slash}".startswith(own) or (not done and ours)

    def refuse(event, args):
        if event in _NETWORK or (event in _PROGRAMS and not starting):
            raise PermissionError(f"a solution that is verified may not do this: {event}")
        if event == "open":
            path, mode, flags = args
            writes = flags & writing if isinstance(flags, int) else 0
            if (writes or any(letter in (mode or "") for letter in "wax+")) and path != nowhere and outside(path):
                raise PermissionError(f"a solution that is verified may not write to {path}")
        elif event in _CHANGES and any(map(outside, args[: _CHANGES[event]])):
            raise PermissionError(f"a solution that is verified may not do this: {event}")

    # These start a program without telling the hook.
    import _posixsubprocess

    start = _posixsubprocess.fork_exec

    def started(*args):
        if not starting:
            raise PermissionError("a solution that is verified may not start a program")
        return start(*args)

    _posixsubprocess.fork_exec = subprocess._fork_exec = started
    with contextlib.suppress(ImportError):    # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    sys.addaudithook(refuse)
    return done, starting
