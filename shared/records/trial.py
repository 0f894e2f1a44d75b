"""Runs one solution through its check, in a process of its own with limits of time and memory and without network.

Started as a program it is that process: it reads what to run from its input and writes the verdict to its output.
These limits stop accidents and simple tricks. They are no prison: who runs other people's code on a machine with
something to lose should do it in a container or a virtual machine.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared.course import ROOT, chapters, short_name

SECONDS, MEGABYTES = 120, 4_000
_START_SECONDS = 600  # to import the course on a slow machine, before the learner's code begins
_POLL = 0.05


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
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            return _watched(process, verdict, seconds, megabytes)
        finally:
            _end(process)


def _watched(process, verdict, seconds, megabytes):
    """Wait for a process that is to write a verdict, within the limits."""
    begun = verdict.with_name("begun")
    deadline, limit_runs = time.monotonic() + _START_SECONDS, False
    while process.poll() is None:
        if not limit_runs and begun.exists():
            deadline, limit_runs = time.monotonic() + seconds, True
        used = sum(map(_memory, _family(process.pid))) / 1e6
        if used > megabytes:
            return "stopped", f"It took more than {megabytes:,} MB of memory."
        if time.monotonic() > deadline:
            return "stopped", f"It ran longer than {seconds} seconds." if limit_runs else "The course did not start."
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

    from shared.carry import load_chapter

    folder = Path.cwd().resolve()
    entry = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    from shared import assets, exercises
    from shared.records.solutions import plain

    assets.use_offline_vocabulary()

    names = dict(load_chapter(chapter_of(entry["exercise"])).__dict__)
    part = entry["exercise"].split(".")[0]
    checks = importlib.import_module(f"shared.exercises.{short_name(part)}")
    judge, before = exercises.judge, _functions_of(exercises, checks)
    (folder / "begun").touch()
    done, starting = shut(folder)
    if hasattr(checks, "subprocess"):
        checks.subprocess = _Programs(folder, starting)
    try:
        code = plain("\n\n".join([*entry["needs"], entry["solution"]]))
        exec(compile(code, "<ipykernel solution>", "exec"), names)  # what this process is for
        attempts = [eval(expression, names) for expression in entry["attempts"]]
        verdict = judge(entry["exercise"], *attempts)
        outcome, detail = verdict.outcome, verdict.detail
    except BaseException as error:
        outcome, detail = "wrong", f"The solution stopped with {type(error).__name__}: {error}"
    if _functions_of(exercises, checks) != before:
        outcome, detail = "wrong", "The solution changed the course's checks."
    done.append(True)
    part = folder / "verdict.part"
    part.write_text(json.dumps([outcome, detail[:2_000]]), encoding="utf-8")
    os.replace(part, folder / "verdict.json")
    os._exit(0)  # threads and exit functions of the solution do not outlive it


def _functions_of(*modules):
    """What the functions of modules do, to see whether somebody has put others in their place."""
    return [(name, id(value), id(getattr(value, "__code__", None))) for module in modules
            for name, value in sorted(vars(module).items()) if callable(value)]  # fmt: skip


_NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
            "socket.gethostbyname", "socket.gethostbyaddr")  # fmt: skip
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
             "pty.spawn", "os.startfile")  # fmt: skip
_CHANGES = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.chmod": 1,
            "os.chown": 1, "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1}  # fmt: skip


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


def shut(folder):
    """From here on: no network, no other programs, no file changed outside the folder, and no verdict written.

    It cannot be taken back. Two lists are returned: the first is to be filled when the verdict may be written, the
    second while a program may be started.
    """
    own, done, starting = f"{folder}{os.sep}", [], []

    def outside(path):
        if isinstance(path, int) or path is None:
            return False
        path = os.path.realpath(os.fsdecode(path))
        return not f"{path}{os.sep}".startswith(own) or (not done and os.path.basename(path).startswith("verdict"))

    def refuse(event, args):
        if event in _NETWORK or (event in _PROGRAMS and not starting):
            raise PermissionError(f"a solution that is verified may not do this: {event}")
        if event == "open":
            path, mode, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else 0
            if (writes or any(letter in (mode or "") for letter in "wax+")) and path != os.devnull and outside(path):
                raise PermissionError(f"a solution that is verified may not write to {path}")
        elif event in _CHANGES and any(map(outside, args[: _CHANGES[event]])):
            raise PermissionError(f"a solution that is verified may not do this: {event}")

    sys.addaudithook(refuse)
    return done, starting
