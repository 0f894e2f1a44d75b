"""Where data lies: the folders that the settings COURSE_DATA and COURSE_CACHE name, and the course's own samples."""

import os
import sys
import tempfile
from pathlib import Path

from shared.assets import saving
from shared.assets.table import AssetError
from shared.course import ROOT

SAMPLES = ROOT / "shared" / "samples"

_reported_caches = set()     # unwritable cache folders that the reader has been told about


def cache_folder():
    """Where downloads are kept: COURSE_CACHE, or ``llm-course`` in the system's place for caches.

    A relative COURSE_CACHE counts from the course's own folder, so that every notebook means the same place.
    Who has no home folder gets one among the temporary files. The folder need not exist yet; ``writable_cache``
    makes it.

    Raises:
        AssetError: if COURSE_CACHE begins with the home folder of somebody unknown.
    """
    chosen = folder_in("COURSE_CACHE")
    if chosen:
        return chosen
    local = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    try:
        return (Path(local) if local else Path.home() / ".cache") / "llm-course"
    except RuntimeError:    # neither HOME nor an entry in the system's list of users: some containers
        return spare_cache()


def writable_cache():
    """``cache_folder()``, created if need be; a temporary folder, with a line saying so, if it is not writable.

    Raises:
        AssetError: if neither of the two can be written, or the disk is full.
    """
    wanted, spare = cache_folder(), spare_cache()
    cause = saving.write_failure(wanted)
    if cause is None:
        return wanted
    spare_cause = saving.write_failure(spare)
    if spare_cause is not None:
        raise AssetError(
            f"No folder to keep downloads in: {wanted} ({cause}) and {spare} ({spare_cause}) cannot be written. "
            "Set COURSE_CACHE to a folder of your own and run this again."
        )
    if wanted not in _reported_caches:
        _reported_caches.add(wanted)
        print(f"The cache folder {wanted} cannot be written ({cause}), so {spare} is used, which may not outlast "
              "a restart. To keep downloads, set COURSE_CACHE to a folder of your own.")
    return spare


def data_folder():
    """The folder in COURSE_DATA, or None if it is not set. Relative names count from the course's folder.

    Raises:
        AssetError: if there is no such folder.
    """
    folder = folder_in("COURSE_DATA")
    if folder is not None and not folder.is_dir():
        raise AssetError(
            f"COURSE_DATA is {os.environ['COURSE_DATA']!r}, but there is no folder {folder}. "
            "Create it, correct COURSE_DATA, or unset COURSE_DATA to do without."
        )
    return folder


def spare_cache():
    """This user's folder among the temporary files, for when the cache cannot be written."""
    user = os.getuid() if hasattr(os, "getuid") else "cache"      # Windows has a temporary folder per user
    return Path(tempfile.gettempdir()) / f"llm-course-{user}"


def offline():
    """Has the learner said that nothing may be downloaded?"""
    return os.environ.get("COURSE_OFFLINE", "") not in ("", "0")


def folder_in(setting):
    """The folder that an environment variable names, or None. Relative names count from the course's folder."""
    chosen = os.environ.get(setting)
    try:
        return ROOT / Path(chosen).expanduser() if chosen else None
    except RuntimeError as error:
        raise AssetError(
            f"{setting} is {chosen!r}, and what ~ stands for cannot be found ({error}). "
            f"Write the full path, or unset {setting} to do without."
        ) from None


def from_home(path):
    """A path for a message that may be stored in a notebook: ``~`` in place of the home folder."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):      # it lies elsewhere, or nobody is at home
        return str(path)


def retry():
    """What to do before another try to download can help, for a message."""
    return "unset COURSE_OFFLINE" if offline() else "restart the kernel"


def remedy(asset):
    """How to get the published file: by trying again, or by hand."""
    place = (data_folder() or cache_folder()) / asset.name
    unpack = f", take {asset.member} out of it" if asset.member else ""
    return f"For the real file, {retry()} and try again, or download {asset.urls[0]}{unpack} and put it at {place}"
