"""Finding a file: in COURSE_DATA, in the cache, on the network, and at last its sample."""

import os
from dataclasses import dataclass
from pathlib import Path

from shared.assets import download, places, saving, table
from shared.assets.table import AssetError, fault_in_file, source


@dataclass(frozen=True)
class Found:
    """A file that is there and right: what ``find`` and ``fetch`` return.

    Attributes:
        name: the name that was asked for.
        path: where the file lies.
        source: "folder" (COURSE_DATA), "cache", "download" or "sample"; "own" for a learner's own text.
    """

    name: str
    path: Path
    source: str

    @property
    def is_sample(self):
        """True if this is the course's stand-in and not the published file."""
        return self.source == "sample"

    @property
    def kind(self):
        """What figures can be known for it: "real" for the published file, "sample" for the stand-in, "own"."""
        return self.source if self.source in ("own", "sample") else "real"

    def read_text(self):
        """The file's text; see the function ``read_text`` for what it refuses."""
        return read_text(self.path)

    def expect(self, real, sample):
        """The figure that holds for this file: ``sample`` for the stand-in, else ``real``.

        >>> Found("the-verdict.txt", Path("the-verdict.txt"), "cache").expect(real=5145, sample=4600)
        5145
        """
        return sample if self.is_sample else real


def read_text(path):
    r"""Read a text file without changing a character: UTF-8, and "\r\n" stays "\r\n".

    Python's own default for the encoding depends on the machine, and it turns every kind of line end
    into "\n"; both would give different tokens on different machines. Only the mark that some editors put
    before the text (BOM, U+FEFF) is left out: it belongs to the encoding.

    Raises:
        ValueError: if the file is not UTF-8, with the position of the first byte (counted from 0) that is not,
            or if it holds NUL characters, as UTF-16 read as UTF-8 does.
        OSError: if it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x} ({error.reason}). "
            "It was probably saved in an older encoding, such as Windows-1252 or Latin-1. "
            "Open it in a text editor, save it with the encoding UTF-8, and try again."
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} is no text: it holds NUL characters. It was probably saved with the encoding UTF-16. "
            "Open it in a text editor, save it with the encoding UTF-8, and try again."
        )
    return text.removeprefix("\ufeff")


def find(name):
    """Look for a file without the network: in COURSE_DATA, then in the cache.

    Args:
        name: a key of ``ASSETS``.

    Returns:
        Found, its checksum verified, or None if the file is in neither place. A damaged file in the
        cache counts as absent, and a line says so.

    Raises:
        ValueError: if the course has no file of this name.
        AssetError: if COURSE_DATA is no folder, or holds a wrong file of this name. You put it there,
            so you decide what becomes of it.
    """
    asset = _known(name)
    return find_in_folder(asset) or find_in_cache(asset)


def fetch(name):
    """Get a file: found, else downloaded, else its sample.

    A server that cannot be reached is remembered, so that the next file does not wait for it again;
    restart the kernel to try it once more.

    Args:
        name: a key of ``ASSETS``.

    Returns:
        Found. If it is the sample, one line has been printed that says so and how to get the real file.

    Raises:
        ValueError: if the course has no file of this name.
        AssetError: as ``find``; if there is neither a download nor a sample; if what arrived is damaged
            or not the published file; or if it cannot be saved.
    """
    asset = _known(name)
    found = find(name)
    if found is not None:
        return found
    if places.offline():
        return _sample(asset, cause="COURSE_OFFLINE is set")
    data, cause = None, None
    try:
        data = download.verified_content(asset)
    except download.NoAnswer as error:
        cause = str(error)
    if data is None:       # outside the handler: whatever goes wrong now is told without the network's stack trace
        return _sample(asset, cause)
    path = places.writable_cache() / asset.name
    saving.save(data, path)
    return Found(asset.name, path, "download")


def fetch_text():
    """The text that chapters 2 and 5 and appendix D learn from: the file in COURSE_TEXT, else The Verdict.

    Returns:
        Found; of a text of one's own the ``kind`` is "own", and no figures are known for it.

    Raises:
        AssetError: if COURSE_TEXT names no file; else as ``fetch``.
    """
    path = places.folder_in("COURSE_TEXT")
    if path is None:
        return fetch("the-verdict.txt")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise AssetError(
            f"COURSE_TEXT is {os.environ['COURSE_TEXT']!r}, and {path} is {what}. Name a text file in UTF-8, or unset "
            "COURSE_TEXT to read The Verdict."
        )
    return Found(path.name, path, "own")


def _known(name):
    if name not in table.ASSETS:
        raise ValueError(f"The course has no data file {name!r}. It has: {', '.join(table.ASSETS)}")
    return table.ASSETS[name]


def find_in_folder(asset):
    """Found, if COURSE_DATA has the file, else None; AssetError if what it has is not the published file."""
    folder = places.data_folder()
    if folder is None:
        return None
    path = folder / asset.name
    try:
        fault = fault_in_file(asset, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        fault = f"it cannot be read ({error.strerror})"
    if fault is not None:
        raise AssetError(
            f"{path} is not the file that the course needs: {fault}. "
            f"Replace it (source: {source(asset)}), or remove it from this folder, which COURSE_DATA names."
        )
    return Found(asset.name, path, "folder")


def find_in_cache(asset):
    """Found, if a cache has the file, else None; of a damaged one a line is printed."""
    for folder in (places.cache_folder(), places.spare_cache()):
        path = folder / asset.name
        try:
            fault = fault_in_file(asset, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            fault = f"it cannot be read ({error.strerror})"
        if fault is None:
            return Found(asset.name, path, "cache")
        print(f"The cached file {path} is damaged and will not be used: {fault}.")
    return None


def _sample(asset, cause):
    """The stand-in for ``asset``, announced; AssetError if it has none."""
    if asset.sample is None:
        raise AssetError(
            f"{asset.name} could not be downloaded ({cause}), and no sample can stand in for it. {places.remedy(asset)}"
        )
    path = places.SAMPLES / asset.sample
    if not path.is_file():
        raise AssetError(
            f"{asset.name} could not be downloaded ({cause}), and the sample that stands in for it, {path}, "
            f"is missing: this copy of the course is incomplete. Get the course again. {places.remedy(asset)}"
        )
    print(f"{asset.name} could not be downloaded ({cause}); the course's own sample {asset.sample} stands in, "
          f"so your numbers will differ. {places.remedy(asset)}")
    return Found(asset.name, path, "sample")
