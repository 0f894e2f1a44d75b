"""The course's commands: `python3 -m shared`, then lab, test, carry, notebooks, figures, progress, record and others.

Standard library only, because it runs before anything is installed, and readable by Python 3.8, so that a Python
which is too old says so instead of stopping with a SyntaxError: everything else is imported after that question.
"""

import functools
import os
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START = os.getcwd()    # where the user stands; the commands work in ROOT
if not __package__:    # started as `python3 PATH/TO/COURSE/shared`, from any folder
    sys.path[0] = ROOT

HELP = """\
usage: python3 -m shared COMMAND [options]       (on Windows: py -m shared COMMAND [options])

Run it in the course's folder, or from anywhere as: python3 PATH/TO/COURSE/shared COMMAND

  lab [NOTEBOOK] [options]  open the course in JupyterLab; options are JupyterLab's: --no-browser --port 9000
  test [options]            check everything: linter, generated files, tests, every notebook. Options are pytest's,
                            and with any of them only the tests run: -x -k attention shared/tests/test_carry.py
                            Meant for an untouched copy: exercises that you have solved and notes of your own in a
                            chapter's notebook show up as differences
  carry [--check]           write every previous_chapters.py from the notebooks' cells; --check only compares
  notebooks OPTION [PATH]   upkeep of the notebooks: --check; --run stores new outputs; --tidy
  figures [--write] [PATH]  known figures: run the notebooks and show what differs; --write stores it
  progress                  what you have solved, by chapter and section, and the cards that are due today
  record [FILE.html]        a page of what you have solved, with your solutions; --name NAME puts yours on it
  verify FILE|FOLDER        run the solutions of records or notebooks through the checks again; a folder's table is CSV
  anki FILE.apkg            write the flashcards as a package for Anki, a deck for each chapter
  address [https://...]     show or set where git finds the course, for Colab: in all notebooks and in the README
  bench [PART] [options]    speed and memory on this machine, beside what people would use instead; --quick --csv FILE
  chat [MODEL] [options]    talk with a model in the terminal: smollm2, 13M, 124M, a GGUF file, a folder of yours
  doctor                    what is installed, found and missing on this machine, and what to do about it

All but carry, address and doctor first make sure of the environment: the folder .venv with the packages of
requirements.txt. That takes minutes and about 3 GB of disk the first time, and a fraction of a second later. An
activated environment that holds every package in the right version is used as it is. On Linux, pip takes the torch
for NVIDIA GPUs, which needs about 8 GB instead. Without such a GPU, say before the first run where the small one is:
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

Settings (environment variables):
  COURSE_SCALE    full (default): the real chapters; small: the same code, a minute or so a notebook
  COURSE_DATA     a folder with data and weights that you already have
  COURSE_TEXT     your own text, which chapters 2 and 5 and appendix D read instead of the story
  COURSE_CACHE    where downloads are kept
  COURSE_OFFLINE  1: never download data or weights
  COURSE_VENV     the environment's folder, instead of .venv
  COURSE_PROGRESS a folder in which your answers are kept, instead of the user's data folder; off: nothing is kept
Relative folders count from the course's folder.
"""

SOLVED = """
Exercises that you have solved and notes of your own in a chapter's notebook show up here as differences: these steps
are meant for an untouched copy of the course. `git status` lists the files that you have changed."""

FIRST_NOTEBOOK = "ch02_text_data/ch02.ipynb"


def main(words=None):
    """Run the command in `words` (default: the command line); returns the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 (older ones are what this line is for)
        version = ".".join(map(str, sys.version_info[:3]))
        print(f"This course needs Python 3.11 or newer, but {sys.executable} is Python {version}: install a newer one "
              "from https://www.python.org/downloads/ and repeat the command with it.", file=sys.stderr)
        return 1
    from shared.course import print_any_character

    print_any_character()
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ("--help", "-h", "help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] not in COMMANDS:
        print(f"unknown command: {words[0]}\n\n{HELP}", end="", file=sys.stderr)
        return 2
    from shared.environment import EnvironmentProblem

    os.chdir(ROOT)
    try:
        status = COMMANDS[words[0]](words[1:])
    except EnvironmentProblem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return status if status >= 0 else 128 - status    # a child ended by signal N counts as 128 + N, as in a shell


def lab(options):
    """JupyterLab on the course, reachable from this machine only and with Jupyter's token."""
    from shared import environment

    python = environment.python_for_course()
    if environment.on_colab() and not os.environ.get("COURSE_VENV"):
        raise environment.EnvironmentProblem("Colab shows notebooks itself: open them from its File menu.")
    notebook, options = split_notebook(options)
    given = {option.partition("=")[0] for option in options}
    ours = [f"--ServerApp.root_dir={ROOT}"]
    if not given & {"--ip", "--ServerApp.ip"}:
        ours.append("--ServerApp.ip=127.0.0.1")
    if os.path.isfile(notebook) and "--LabApp.default_url" not in given:
        ours.append(f"--LabApp.default_url=/lab/tree/{notebook}")
    environment.say("Starting JupyterLab. To end it: Ctrl-C here, then y (or Ctrl-C again).")
    return run([python, "-m", "jupyterlab", *ours, *options], environment.course_environment(python))[0]


def split_notebook(options):
    """(the notebook to open, as a path from ROOT with slashes; the options without it)."""
    for option in options:
        for folder in (START, ROOT):
            path = os.path.join(folder, option)
            if option.endswith(".ipynb") and os.path.isfile(path) and path.startswith(ROOT + os.sep):
                rest = [other for other in options if other != option]
                return os.path.relpath(path, ROOT).replace(os.sep, "/"), rest
    return FIRST_NOTEBOOK, options


def test(options):
    """Everything that must hold, step by step; with options, only pytest with these."""
    from shared import environment

    python = environment.python_for_course()
    settings = environment.course_environment(python)
    if options:
        environment.say("With options, only the tests run.")
    steps, failed, begin = test_steps(python, options), [], time.monotonic()
    for number, (title, command, changes) in enumerate(steps, start=1):
        environment.say(f"\n=== {number}/{len(steps)} {title} ===")
        begin_step = time.monotonic()
        changed = {name: value for name, value in {**settings, **changes}.items() if value is not None}
        status, stopped = run(command, changed)
        if stopped:
            raise KeyboardInterrupt
        outcome = f"FAILED (exit status {status})" if status else "passed"
        environment.say(f"--- {title}: {outcome}, {time.monotonic() - begin_step:.1f} s")
        failed += [title] if status else []
    took = f"{time.monotonic() - begin:.0f} s"
    if failed and not options:
        environment.say(SOLVED)
    environment.say(f"\n{len(failed)} of {len(steps)} steps FAILED in {took}: {', '.join(failed)}" if failed
                    else f"\nAll passed in {took}: {', '.join(title for title, _, _ in steps)}")
    return 1 if failed else 0


def test_steps(python, options):
    """[(title, command, changes to the environment variables; None removes one)]"""
    from shared.course import notebooks as all_notebooks

    # Two at a time; loadfile keeps the cells of a notebook together, in one worker and in order.
    pytest, parallel = [python, "-m", "pytest"], ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-q"]
    # Two workers share the cores: more threads than cores wait for each other and are many times slower, above all when
    # something else runs on the machine.
    threads = "2" if (os.cpu_count() or 1) >= 4 else "1"
    quiet = {"COURSE_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE",
             "COURSE_PROGRESS": "off"}
    named = any(os.path.exists(option.partition("::")[0]) for option in options)
    tests = ("pytest", [*pytest, *([] if named else ["shared/tests"]), *parallel, *options], quiet)
    if options:
        return [tests]
    # The same on every machine: the samples instead of the user's data, Jupyter's own plots, stable hashes and texts.
    same = {**quiet, "COURSE_SCALE": os.environ.get("COURSE_SCALE") or "small", "COURSE_DATA": None,
            "COURSE_TEXT": None, "MPLBACKEND": None, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore",
            "COURSE_WRONG_STOPS": "1"}
    nbval = ["-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=1800",
             "--nbval-sanitize-with=shared/tests/nbval.cfg"]
    found = [os.path.relpath(str(path), ROOT) for path in all_notebooks()]
    run_all = [*pytest, *nbval, *parallel, *found]
    if not found:    # without a path, pytest would run all the tests instead
        run_all = [python, "-c", "import sys; sys.exit('There is no notebook to run.')"]
    return [
        ("ruff", [python, "-m", "ruff", "check", "."], {}),
        ("carry --check", call_main(python, "carry", "--check"), {}),
        ("notebooks --check", call_main(python, "notebooks", "--check"), {}),
        tests,
        (f"run {len(found)} notebooks", run_all, same),
    ]


def carry(options):
    """In this Python, whatever is installed: it only reads and writes text."""
    from shared.carry import main as carry_main

    return carry_main(options) or 0


def in_environment(module, options):
    """main(options) of a module in the environment's Python, because it needs packages."""
    from shared import environment

    python = environment.python_for_course()
    return run(call_main(python, module, *options), environment.course_environment(python))[0]


def address(options):
    """In this Python: it only reads and writes text."""
    from shared.address import main as address_main

    return address_main(options)


def on_files(module, options):
    """The same, with options that are paths from where the user stands."""
    return in_environment(module, [opt if opt.startswith("-") else os.path.join(START, opt) for opt in options])


def on_some_files(module, options):
    """The same, where an option may be a path or something else, such as a name."""
    paths = [os.path.join(START, option) for option in options]
    return in_environment(module, [path if os.path.exists(path) else option
                                   for option, path in zip(options, paths)])


def from_here(module, options):
    """The same, where the module is told where the user stands, for the paths among its options."""
    return in_environment(module, ["--start", START, *options])


def doctor(options):
    """In the environment's Python if that works, else in this one; creates nothing."""
    from shared import environment

    folder = environment.chosen_folder()
    if folder is not None and environment.ask(environment.python_in(folder)):
        python = environment.python_in(folder)
        return run(call_main(python, "doctor", *options), environment.course_environment(python))[0]
    from shared.doctor import main as doctor_main

    return doctor_main(options)


ON_FILES = {"notebooks": "notebooks", "figures": "figures.record", "progress": "study.report", "anki": "study.anki"}
ON_SOME_FILES = {"chat": "chat"}
FROM_HERE = {"bench": "bench", "record": "records.record", "verify": "records.verify"}
COMMANDS = {
    "lab": lab, "test": test, "carry": carry, "doctor": doctor, "address": address,
    **{name: functools.partial(on_files, module) for name, module in ON_FILES.items()},
    **{name: functools.partial(on_some_files, module) for name, module in ON_SOME_FILES.items()},
    **{name: functools.partial(from_here, module) for name, module in FROM_HERE.items()},
}


def call_main(python, module, *options):
    """The command that calls main(options) of a module of this package."""
    return [python, "-c", f"import sys; from shared.{module} import main; sys.exit(main(sys.argv[1:]))", *options]


def run(command, settings):
    """Run a command to its end: (exit status, was it to stop before?).

    Ctrl-C reaches the child from the terminal, so here it is only noted: the child decides (JupyterLab asks first).
    Whoever ends this process ends the child too, so that no server is left behind.
    """
    stops, process = [], None

    def note(number, frame):
        stops.append(number)
        if number == signal.SIGTERM and process is not None:
            process.terminate()

    # Before the child exists, so that no signal falls into a gap. Who starts us in the background may ignore Ctrl-C.
    noted = [signal.SIGTERM] + ([signal.SIGINT] if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else [])
    before = {number: signal.signal(number, note) for number in noted}
    try:
        process = subprocess.Popen([str(part) for part in command], env=settings, cwd=ROOT)
        if signal.SIGTERM in stops:
            process.terminate()
        return process.wait(), bool(stops)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
