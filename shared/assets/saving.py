"""Writing files, and what to say when the disk is full or does not let us."""

import errno
import uuid

from shared.assets.table import AssetError
from shared.course import FileProblem, write_file

DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def save(data, path, setting="COURSE_CACHE"):
    """Write a file at once and whole; ``setting`` is the environment variable that can name another folder for it.

    Raises:
        AssetError: if the disk is full or the file cannot be written.
    """
    try:
        write_file(path, data)
    except FileProblem as problem:
        raise not_written(path, problem.__cause__, setting) from problem.__cause__


def write_failure(folder):
    """Why no file can be made in ``folder``, in words; None if one can. Raises AssetError if the disk is full."""
    trial = folder / f"{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        if error.errno in DISK_FULL:
            raise disk_is_full(folder) from error
        return error.strerror
    return None


def not_written(path, error, setting="COURSE_CACHE"):
    """The AssetError that says that the OSError ``error`` kept us from writing ``path``, and what to do."""
    if error.errno in DISK_FULL:
        return disk_is_full(path, setting)
    return AssetError(
        f"{path} cannot be written ({error.strerror or error}). Close the programs that use it, or set "
        f"{setting} to another folder, and run this again."
    )


def disk_is_full(path, setting="COURSE_CACHE"):
    """The AssetError that says that there is no room for ``path``, and what to do."""
    return AssetError(
        f"{path} cannot be written: no space is left on the disk. Free some space, or set {setting} to a "
        "folder on another disk, and run this again."
    )
