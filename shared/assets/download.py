"""Downloading a file from its addresses: retries, limits of time, and a look at what arrived."""

import io
import json
import sys
import threading
import time
import zipfile
import zlib
from urllib.parse import urlsplit

from shared.assets import places
from shared.assets.table import AssetError, fault

CONNECT_SECONDS = 5      # to reach a server
READ_SECONDS = 15        # of silence from a server that was reached
RETRIES = 2              # further tries at one address, for what may pass by itself
RETRY_PAUSE = 0.5        # seconds between two tries

# What zipfile raises for an archive that is damaged, or none.
BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)

_unreachable = {}            # server -> cause, for the servers that this process need not try again


class NoAnswer(Exception):
    """No file could be had: the network is down, or the server does not have it."""

    def __init__(self, cause, may_pass=False, server_is_down=True):
        super().__init__(cause)
        self.may_pass = may_pass
        self.server_is_down = server_is_down


class Damaged(Exception):
    """Something arrived, but not (all of) the file."""


def verified_content(asset):
    """The verified content of ``asset`` from the first of its addresses that delivers it.

    Raises:
        NoAnswer: if no address delivered anything; a sample may stand in.
        AssetError: if one delivered something else than the file.
    """
    end = time.monotonic() + asset.patience
    causes, damaged = [], False
    for place, url in enumerate(asset.urls):
        # Every address gets its share of the time, so that a slow first one does not use it all up.
        share = (end - time.monotonic()) / (len(asset.urls) - place)
        try:
            return _download_from(asset, url, time.monotonic() + share)
        except Damaged as error:
            damaged = True
            causes.append(f"{urlsplit(url).netloc}: {error}")
        except NoAnswer as error:
            causes.append(f"{urlsplit(url).netloc}: {error}")
    cause = "; ".join(causes)
    if not damaged:
        raise NoAnswer(cause)
    go_on = "To go on with the course's sample instead, set COURSE_OFFLINE=1. " if asset.sample else ""
    raise AssetError(
        f"{asset.name} was not used: what arrived is not the whole published file ({cause}). The connection broke, or "
        "something between you and the server, such as a login page, answered in its place. "
        f"{go_on}{places.remedy(asset)}"
    )


def _download_from(asset, url, end):
    """The verified content of ``asset`` from one address, tried again where that may help.

    Raises NoAnswer or Damaged, as the last try went.
    """
    server = urlsplit(url).netloc
    if server in _unreachable:
        raise NoAnswer(_unreachable[server])
    for tries_left in reversed(range(1 + RETRIES)):
        try:
            return _content(asset, _get(url, asset, end))
        except Damaged:
            if not tries_left:
                raise
        except NoAnswer as error:
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
        NoAnswer, Damaged
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
            raise NoAnswer("too slow, given up")
        if errors:
            raise _in_our_words(errors[0]) from errors[0]
        return received.getvalue()


def _in_our_words(error):
    """The NoAnswer or Damaged that says what an error of a download means for us."""
    import requests

    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        # 4xx is the server's last word, except for "took too long" and "too many requests".
        return NoAnswer(f"HTTP status {status}", may_pass=status >= 500 or status in (408, 429), server_is_down=False)
    if isinstance(error, requests.exceptions.SSLError):
        return NoAnswer("no trusted connection; behind a proxy, set REQUESTS_CA_BUNDLE to the proxy's certificate")
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        # Not tried again: it has had its time.
        return NoAnswer("no answer in time")
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return Damaged("the connection broke before the end")
    if isinstance(error, requests.ConnectionError):
        return NoAnswer("no connection", may_pass=True)
    if isinstance(error, (requests.RequestException, OSError, ValueError)):
        return NoAnswer(f"{type(error).__name__}: {error}")
    return error


def _content(asset, data):
    """The file itself from what was downloaded: unpacked if need be, and verified. Raises Damaged."""
    if asset.member is not None:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(asset.member)
        except KeyError:
            raise Damaged(f"the zip archive holds no {asset.member}") from None
        except BAD_ZIP as error:
            raise Damaged(f"it is not a usable zip archive: {error}") from None
    wrong = fault(asset, data)
    if wrong is None and asset.sha256 is None and asset.name.endswith(".json"):
        # No checksum to tell a whole file from half of one, or from a login page; at least it must parse.
        try:
            json.loads(data)
        except ValueError as error:
            wrong = f"it is not whole JSON: {error}"
    if wrong is not None:
        raise Damaged(wrong)
    return data
