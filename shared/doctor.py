"""Looks at the machine and says what is there, what is missing and what to do about it: python3 -m shared doctor

Creates and downloads nothing. Every part is looked at on its own, so that one that is broken does not hide the others.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from shared import environment
from shared.course import print_any_character

INSTALL = "Run `python3 -m shared lab`, which installs what is missing."
SETTINGS = ("COURSE_SCALE", "COURSE_DATA", "COURSE_TEXT", "COURSE_CACHE", "COURSE_OFFLINE", "COURSE_VENV",
            "COURSE_PROGRESS", "COURSE_ADDRESS")


class Problem(str):
    """A line about something that the course needs and that is missing or wrong; it ends with what to do."""


def outside_environment():
    """Is this a Python that only looks because the course's own is not there?"""
    folder = environment.chosen_folder()
    return folder is not None and Path(sys.prefix).resolve() != folder.resolve()


def python():
    outside = outside_environment()
    yield f"{platform.python_version()}, {sys.executable}{'' if outside else ' (the course runs with it)'}"
    yield f"{platform.platform()}, {os.cpu_count()} cores"
    if outside:
        folder = environment.chosen_folder()
        state = "does not work" if environment.python_in(folder).exists() else "does not exist yet"
        yield Problem(f"The environment {folder} {state}. Run `python3 -m shared lab`, which creates it.")
        active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
        if active and not os.environ.get("COURSE_VENV"):
            yield f"The active environment {active} is not used: it lacks packages or has other versions of them."


def packages():
    if outside_environment():
        yield "looked at once the environment exists"
        return
    pins, unmet = environment.pins(environment.REQUIREMENTS.read_text(encoding="utf-8")), environment.unmet()
    yield f"{len(pins) - len(unmet)} of {len(pins)} as in requirements.txt"
    for name, (pinned, installed) in unmet.items():
        if installed is None:
            yield Problem(f"{name} {pinned} is missing. {INSTALL}")
        else:
            yield (f"{name}: {installed} is installed, the course was tested with {pinned}. If something fails: "
                   f"{sys.executable} -m pip install {name}=={pinned}")


def device():
    if outside_environment():
        return
    try:
        import torch
    except Exception as error:    # a broken installation raises more than ImportError: OSError for a missing library
        pinned = environment.pins(environment.REQUIREMENTS.read_text(encoding="utf-8"))["torch"]
        yield Problem(f"torch cannot be imported ({error}). Install it anew: {sys.executable} -m pip install "
                      f"--force-reinstall torch=={pinned}")
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            yield f"CUDA: {card.name}, {card.total_memory / 2**30:.0f} GiB"
        return
    if torch.backends.mps.is_available():
        yield "MPS: the GPU of this Mac"
        return
    yield f"CPU, {torch.get_num_threads()} threads"
    try:    # with a broken driver, it may hang
        cards = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=10).stdout.strip()
    except subprocess.TimeoutExpired:
        cards = b""
        yield "nvidia-smi does not answer: if there is an NVIDIA GPU, restart the machine or renew the driver."
    except OSError:    # there is no nvidia-smi
        cards = b""
    if cards:
        why = "its driver is too old for this torch: update the driver" if torch.version.cuda else (
            "this torch is a build for CPUs: install a CUDA build, see https://pytorch.org/get-started/locally/")
        yield f"There is an NVIDIA GPU, but {why}."


def memory():
    try:
        import psutil
    except ImportError:
        return
    now = psutil.virtual_memory()
    yield f"{now.total / 1e9:.1f} GB, {now.available / 1e9:.1f} GB free"
    if now.available < 4e9:
        yield "Chapters 5 to 7 want about 4 GB free. Close other programs, or set COURSE_SCALE=small."


def disk():
    free = shutil.disk_usage(environment.ROOT).free
    yield f"{free / 1e9:.0f} GB free where the course is ({environment.ROOT})"
    if free < 1e9:
        yield Problem("Checkpoints and data need about 1 GB. Make room, or move the course to another disk.")


def settings():
    from shared.course import scale

    try:
        yield f"COURSE_SCALE: {scale()}"
    except ValueError as error:
        yield Problem(f"{error}.")
    for name in SETTINGS[1:]:
        if os.environ.get(name):
            yield f"{name}: {os.environ[name]}"
    for name in sorted(set(os.environ)):
        if name.startswith("COURSE_") and name not in SETTINGS:
            yield f"{name} means nothing to the course. Known are {', '.join(SETTINGS)}."


def data():
    from shared import assets

    try:
        yield f"cache folder: {assets.cache_folder()}"
    except assets.AssetError as error:
        yield Problem(f"{error}")
    for name, asset in assets.ASSETS.items():
        try:
            found = assets.find(name)
        except assets.AssetError as error:
            yield Problem(f"{error}")
            continue
        if found:
            yield f"{name}: found, {found.path}"
        else:
            spare = f"the course's {asset.sample} stands in" if asset.sample else "the exercise has to wait"
            yield f"{name}: not here; downloaded when a notebook asks for it, and without a network {spare}"
    if not outside_environment():
        try:
            yield f"GPT-2 vocabulary: {assets.gpt2_vocabulary()[0].parent}"
        except assets.AssetError as error:
            yield Problem(f"{error}")


def kernel():
    """Which Python runs the notebooks' cells: the one fault behind most ModuleNotFoundErrors."""
    if outside_environment():
        return
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Problem(f"There is no kernel named python3. {sys.executable} -m pip install --force-reinstall ipykernel")
        return
    anyone = {"python", "python3", "python{}.{}".format(*sys.version_info)}    # Jupyter puts its own interpreter there
    command = sys.executable if spec.argv[0] in anyone else shutil.which(spec.argv[0]) or spec.argv[0]
    same = os.path.normcase(os.path.dirname(command)) == os.path.normcase(os.path.dirname(sys.executable))
    if same:
        yield f"python3 runs {command}"
    else:
        yield Problem(f"The kernel python3, described in {spec.resource_dir}, runs {command}, not {sys.executable}. "
                      f"Make one for the course, {sys.executable} -m ipykernel install --user --name llm-course, and "
                      "choose it in JupyterLab's Kernel menu.")
    yield f"In VS Code or PyCharm choose this interpreter as the notebook's kernel: {sys.executable}"


def main(argv=()):
    """Print the report; returns 1 if something that is needed is missing, else 0."""
    print_any_character()
    n_problems = 0
    for look in (python, packages, device, memory, disk, settings, data, kernel):
        lines = []
        try:
            lines.extend(look())
        except Exception as error:    # a report that stops at the first surprise helps nobody
            lines.append(Problem(f"cannot be looked at: {type(error).__name__}: {error}. {INSTALL}"))
        lines = list(dict.fromkeys(lines))    # a wrong COURSE_DATA is the same problem for every file
        n_problems += sum(isinstance(line, Problem) for line in lines)
        for number, line in enumerate(lines):
            print(f"{'' if number else look.__name__:<9} {'PROBLEM: ' if isinstance(line, Problem) else ''}{line}")
        sys.stdout.flush()
    print(f"\n{n_problems} problem(s), see above." if n_problems else "\nNothing is missing.")
    return 1 if n_problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
