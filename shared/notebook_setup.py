"""What a notebook's setup cell does once the course's folder is found."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from shared import assets, environment, stored
from shared.course import ROOT, scale

# What the tests need and a reader on Colab does not; and what must stay as Colab has it.
_NOT_ON_COLAB = frozenset(
    "torch transformers tokenizers peft trl jupyterlab ipykernel "
    "pytest pytest-xdist nbval nbclient ruff playwright axe-playwright-python hypothesis".split()
)


def absent_packages():
    """Names in ``requirements.txt`` that are not installed at all, in any version."""
    return [name for name, (_, installed) in environment.unmet().items() if installed is None]


def install_missing():
    """Install the missing packages on Colab, unpinned, so that nothing Colab ships is replaced.

    Raises:
        RuntimeError: if pip fails; the message holds the command to try by hand.
    """
    wanted = [name for name in absent_packages() if name not in _NOT_ON_COLAB]
    if not wanted:
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", *wanted]
    if subprocess.run(command).returncode != 0:
        raise RuntimeError(f"pip could not install {', '.join(wanted)}; try: {' '.join(command)}")


def gpu_line():
    """Which GPU there is, in words, and on Colab how to get one."""
    import torch

    if torch.cuda.is_available():
        return f"GPU: {torch.cuda.get_device_name()}"
    return "no GPU: Runtime > Change runtime type > T4 GPU gives you one, and begins anew"


def prepare():
    """Make the notebook ready and say in one line on what it runs.

    Installs what is missing (on Colab only), and points tiktoken at a local copy of GPT-2's vocabulary.

    Raises:
        ModuleNotFoundError: if this kernel lacks packages of the course (the wrong kernel, most often).
        RuntimeError: if this Python skips assertions, which are the notebooks' checks.
        AssetError: if COURSE_DATA names no folder, or the vocabulary cannot be had.
    """
    if sys.flags.optimize:
        raise RuntimeError(
            "this Python skips `assert`, so the checks in this notebook would check nothing. "
            "Unset PYTHONOPTIMIZE (or drop the option -O), then start Jupyter again."
        )
    colab = environment.on_colab()
    if colab:
        install_missing()
    lacking = [name for name in absent_packages() if not (colab and name in _NOT_ON_COLAB)]
    if lacking:
        raise ModuleNotFoundError(
            f"this notebook's Python, {sys.executable}, lacks {', '.join(lacking)}. Is it the course's kernel? "
            f"Start the course with `python3 -m shared lab` in {ROOT}, or run `python3 -m shared doctor` there."
        )
    assets.data_folder()  # complains now, not in the middle of the chapter
    assets.use_offline_vocabulary()
    stored.remember(Path.cwd())  # before anything is run
    torch_version = importlib.metadata.version("torch")
    data = os.environ.get("COURSE_DATA") or "cache, download or sample"
    own = f", text: {os.environ['COURSE_TEXT']}" if os.environ.get("COURSE_TEXT") else ""
    print(f"Python {platform.python_version()}, torch {torch_version}, scale {scale()}, data from: {data}{own}")
    if colab:
        print(gpu_line())
