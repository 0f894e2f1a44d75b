"""Data files: every way a download can fail, against a server on this machine. The internet is never asked."""

import _thread
import dataclasses
import errno
import functools
import hashlib
import http.server
import importlib.metadata
import inspect
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import pooch
import pytest
import tqdm

from shared import assets
from shared.assets import download, places, table, vocabulary
from shared.course import ROOT
from shared.tests.limits import HANGS

PUBLISHED = assets.ASSETS      # the real table; the tests below replace it
REAL_DATA = ROOT.parent / "shared" / "data"
GPT2_IDS = [33901, 86, 343, 86, 220, 959]      # "Akwirw ier", the example of chapter 2

STORY = ("It was a fine morning — or so they said.\r\n" * 400).encode()
MESSAGES = b"ham\tSee you at nine\nspam\tYou have won\n"
SAMPLE_NAMES = {"the-verdict.txt": "short-story.txt", "SMSSpamCollection": "sms-messages.tsv"}


def zipped(data, member="SMSSpamCollection"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, data)
    return buffer.getvalue()


# The server ---------------------------------------------------------------------------------------------

class Server(http.server.ThreadingHTTPServer):
    """Answers each path with the functions in ``answers[path]``: one per request, the last one again and again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests, self.closing, self.clock = {}, [], threading.Event(), None
        self.address = f"http://127.0.0.1:{self.server_port}"

    def url(self, path, *answers):
        self.answers[path] = list(answers)
        return self.address + path

    def asked(self, *paths):
        """Wait until so many requests have been read, then: were it these? A client may give up before they are."""
        while len(self.requests) < len(paths):
            time.sleep(0.01)
        return self.requests == list(paths)

    def handle_error(self, request, client_address):
        pass      # clients that hang up are part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        left = self.server.answers[self.path]
        (left.pop(0) if len(left) > 1 else left[0])(self)

    def head(self, n_bytes=None, status=200):
        self.send_response(status)
        if n_bytes is not None:
            self.send_header("Content-Length", str(n_bytes))
        self.end_headers()

    def log_message(self, *_):
        pass


def body(data, claimed=None):
    """Answer with ``data``; ``claimed`` is the length to announce, "none" for no announcement."""
    def answer(handler):
        handler.head(None if claimed == "none" else len(data) if claimed is None else claimed)
        handler.wfile.write(data)
    return answer


def status(code):
    return lambda handler: handler.head(0, code)


def hang(handler):
    handler.server.closing.wait()


def drip(handler):
    """A byte at a time; each takes 0.05 s by the server's clock, up to 0.7 s in all."""
    handler.head(len(STORY))
    for place in range(len(STORY)):
        handler.wfile.write(STORY[place:place + 1])
        handler.wfile.flush()
        handler.server.clock.now = min(handler.server.clock.now + 0.05, 0.7)
        if handler.server.closing.wait(0.01):
            return


def stall(handler):
    handler.head(len(STORY))
    handler.wfile.write(STORY[:5000])
    handler.wfile.flush()
    handler.server.closing.wait()


def running_server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.closing.set()
        running.shutdown()


server = pytest.fixture(running_server, name="server")
other_server = pytest.fixture(running_server, name="other_server")


class Clock:
    """Stands in for the module ``time`` in assets/download.py: only the dripping server makes it advance."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        pass


@pytest.fixture
def clock(server, monkeypatch):
    server.clock = Clock()
    monkeypatch.setattr(download, "time", server.clock)


@pytest.fixture
def impatient(monkeypatch):
    """The first transfer waits 0.3 s for an answer; later ones wait as long as it takes, however slow the machine."""
    real, seconds = pooch.HTTPDownloader, [0.3]

    def downloader(*, timeout, **settings):
        assert timeout == (download.CONNECT_SECONDS, download.READ_SECONDS)
        return real(timeout=seconds.pop() if seconds else HANGS, **settings)

    monkeypatch.setattr(pooch, "HTTPDownloader", downloader)


# Isolation ----------------------------------------------------------------------------------------------

@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Own cache, own temporary folder, own samples, no address but those a test publishes, no memory."""
    for name in ("COURSE_DATA", "COURSE_OFFLINE", "TIKTOKEN_CACHE_DIR"):
        monkeypatch.setenv(name, "")       # so that monkeypatch restores what the code under test sets
        monkeypatch.delenv(name)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    temporary, samples = tmp_path / "temporary", tmp_path / "samples"
    temporary.mkdir()
    samples.mkdir()
    for sample in SAMPLE_NAMES.values():
        (samples / sample).write_bytes(b"a stand-in\n")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(places, "SAMPLES", samples)
    monkeypatch.setattr(table, "ASSETS", {})
    monkeypatch.setattr(download, "RETRY_PAUSE", 0.01)
    monkeypatch.setattr(download, "_unreachable", {})
    monkeypatch.setattr(places, "_reported_caches", set())


def publish(name, *urls, content=STORY, **changes):
    """Enter a file with this content and these addresses into the course's table."""
    facts = {"urls": urls, "sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content), "patience": 10}
    table.ASSETS[name] = dataclasses.replace(PUBLISHED[name], **(facts | changes))


def files_in(folder):
    return sorted(p.name for p in Path(folder).rglob("*") if p.is_file())


def nothing_kept(tmp_path):
    return files_in(tmp_path / "cache") == files_in(tmp_path / "temporary") == []


# What works ---------------------------------------------------------------------------------------------

def test_download_is_verified_saved_and_quiet(server, tmp_path, capfd):
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    found = assets.fetch("the-verdict.txt")
    assert (found.source, found.is_sample) == ("download", False)
    assert found.path == tmp_path / "cache" / "the-verdict.txt" and found.path.read_bytes() == STORY
    assert files_in(tmp_path / "cache") == ["the-verdict.txt"] and files_in(tmp_path / "temporary") == []
    assert capfd.readouterr() == ("", "")


def test_slow_download_shows_progress(server, capfd, monkeypatch):
    # The tests run with progress bars switched off; this one is about the bar.
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, disable=False))

    def in_two_parts(handler):
        handler.head(len(STORY))
        handler.wfile.write(STORY[:9000])
        handler.wfile.flush()
        handler.server.closing.wait(1.1)
        handler.wfile.write(STORY[9000:])

    publish("the-verdict.txt", server.url("/story", in_two_parts))
    assert assets.fetch("the-verdict.txt").source == "download"
    printed = capfd.readouterr()
    assert printed.out == "" and "the-verdict.txt: 100%" in printed.err and printed.err.endswith("\n")


def test_cached_file_needs_no_request(server):
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    assert assets.find("the-verdict.txt") is None and server.requests == []
    assets.fetch("the-verdict.txt")
    assert server.requests == ["/story"]
    again = assets.fetch("the-verdict.txt")
    assert again.source == "cache" and again == assets.find("the-verdict.txt") and server.requests == ["/story"]


def test_file_is_taken_out_of_a_zip(server, tmp_path):
    publish("SMSSpamCollection", server.url("/sms.zip", body(zipped(MESSAGES))), content=MESSAGES)
    assert assets.fetch("SMSSpamCollection").path.read_bytes() == MESSAGES
    assert files_in(tmp_path / "cache") == ["SMSSpamCollection"]


def test_retry_after_a_server_error(server):
    publish("the-verdict.txt", server.url("/story", status(500), status(503), body(STORY)))
    assert assets.fetch("the-verdict.txt").source == "download" and len(server.requests) == 3


def test_retry_after_a_broken_connection(server):
    publish("the-verdict.txt", server.url("/story", body(STORY[:9000], claimed=len(STORY)), body(STORY)))
    assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY and len(server.requests) == 2


@pytest.mark.parametrize("first", [status(404), body(b"<html>log in</html>"), hang])
def test_second_address_when_the_first_fails(server, other_server, request, first):
    if first is hang:
        request.getfixturevalue("impatient")
    publish("the-verdict.txt", server.url("/one", first), other_server.url("/two", body(STORY)), patience=HANGS)
    assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY
    assert other_server.requests == ["/two"]
    assert server.asked("/one") or set(server.requests) == {"/one"}


def test_second_address_gets_its_share_of_the_time(server, other_server, clock):
    publish("the-verdict.txt", server.url("/one", drip), other_server.url("/two", body(STORY)), patience=1)
    assert assets.fetch("the-verdict.txt").source == "download"


# No file to be had: the sample stands in ----------------------------------------------------------------

@pytest.mark.parametrize(("answer", "cause", "n_requests"), [
    (status(500), "HTTP status 500", 3),
    (status(404), "HTTP status 404", 1),      # the server's last word: asking again is useless
    (hang, "no answer in time", 1),
    (stall, "no answer in time", 1),
])
def test_sample_with_one_line(server, request, tmp_path, capfd, answer, cause, n_requests):
    """The servers that hang do so until the test is over: that ``fetch`` returns shows that it gave up."""
    if answer in (hang, stall):
        request.getfixturevalue("impatient")
    publish("the-verdict.txt", server.url("/story", answer), patience=HANGS)
    found = assets.fetch("the-verdict.txt")
    assert found == assets.Found("the-verdict.txt", places.SAMPLES / "short-story.txt", "sample")
    printed = capfd.readouterr()
    assert printed.out.count("\n") == 1 and printed.err == ""
    for part in ("the-verdict.txt", cause, "short-story.txt", f"{server.address}/story", str(tmp_path / "cache")):
        assert part in printed.out
    assert server.asked(*["/story"] * n_requests) and nothing_kept(tmp_path)


def test_dripping_server_meets_the_deadline(server, tmp_path, capfd, clock):
    publish("the-verdict.txt", server.url("/story", drip), patience=0.6)
    assert assets.fetch("the-verdict.txt").is_sample
    assert len(server.requests) == 1
    assert "too slow" in capfd.readouterr().out and nothing_kept(tmp_path)


def no_such_host(*_args, **_kwargs):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("trouble", ["refused", "unknown host", "not TLS"])
def test_sample_without_a_connection(server, monkeypatch, capfd, trouble):
    if trouble == "unknown host":
        monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
        url = "http://no-such-host.invalid/story"
    elif trouble == "refused":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/story"
    else:
        url = server.url("/story", body(STORY)).replace("http:", "https:")
    publish("the-verdict.txt", url)
    assert assets.fetch("the-verdict.txt").is_sample
    printed = capfd.readouterr().out
    assert printed.count("\n") == 1 and "Traceback" not in printed
    assert ("no trusted connection" if trouble == "not TLS" else "no connection") in printed


def test_silent_server_is_not_asked_twice(server, impatient):
    publish("the-verdict.txt", server.url("/story", hang))
    publish("SMSSpamCollection", server.url("/sms.zip", body(zipped(MESSAGES))), content=MESSAGES)
    assert assets.fetch("the-verdict.txt").is_sample and assets.fetch("SMSSpamCollection").is_sample
    assert server.asked("/story")


def test_server_that_answered_is_asked_for_other_files(server):
    publish("the-verdict.txt", server.url("/story", status(404)))
    publish("SMSSpamCollection", server.url("/sms.zip", body(zipped(MESSAGES))), content=MESSAGES)
    assert assets.fetch("the-verdict.txt").is_sample
    assert assets.fetch("SMSSpamCollection").source == "download"


def test_course_offline_makes_no_request(server, monkeypatch, capfd):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    assert assets.fetch("the-verdict.txt").is_sample and server.requests == []
    assert "unset COURSE_OFFLINE" in capfd.readouterr().out
    monkeypatch.setenv("COURSE_OFFLINE", "0")
    assert assets.fetch("the-verdict.txt").source == "download"


def test_no_sample_gives_the_manual_steps(server, tmp_path):
    publish("alpaca_data.json", server.url("/alpaca", status(404)), sha256=None, n_bytes=None)
    with pytest.raises(assets.AssetError) as caught:
        assets.fetch("alpaca_data.json")
    for part in ("alpaca_data.json", "404", f"download {server.address}/alpaca", str(tmp_path / "cache")):
        assert part in str(caught.value)
    assert caught.value.__context__ is None      # no stack trace of the network libraries above the message


def test_missing_sample_is_an_error(monkeypatch):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    (places.SAMPLES / "short-story.txt").unlink()
    with pytest.raises(assets.AssetError, match="short-story.txt.* is missing"):
        assets.fetch("the-verdict.txt")


# Something wrong arrives: an error ----------------------------------------------------------------------

@pytest.mark.parametrize(("answer", "cause"), [
    (body(STORY[:9000], claimed=len(STORY)), "connection broke before the end"),
    (body(STORY[:9000], claimed="none"), "9,000 bytes, but"),
    (body(STORY[:-1] + b"?"), hashlib.sha256(STORY[:-1] + b"?").hexdigest()[:12]),
    (body(b""), "empty"),
])
def test_wrong_content_is_an_error(server, tmp_path, answer, cause):
    publish("the-verdict.txt", server.url("/story", answer))
    with pytest.raises(assets.AssetError) as caught:
        assets.fetch("the-verdict.txt")
    for part in ("the-verdict.txt", cause, f"{server.address}/story", "COURSE_OFFLINE=1"):
        assert part in str(caught.value)
    assert len(server.requests) == 3 and nothing_kept(tmp_path)


@pytest.mark.parametrize(("archive", "cause"), [
    (b"PK\x03\x04 this is no archive", "not a usable zip"),
    (zipped(MESSAGES)[:-30], "not a usable zip"),
    (zipped(MESSAGES, member="readme"), "holds no SMSSpamCollection"),
    (zipped(MESSAGES + b"!"), "sha256"),
])
def test_bad_zip_is_an_error(server, tmp_path, archive, cause):
    publish("SMSSpamCollection", server.url("/sms.zip", body(archive)), content=MESSAGES)
    with pytest.raises(assets.AssetError, match=cause):
        assets.fetch("SMSSpamCollection")
    assert nothing_kept(tmp_path)


def test_wrong_content_outweighs_a_missing_file(server):
    publish("the-verdict.txt", server.url("/one", body(b"<html>log in</html>")), server.url("/two", status(404)))
    with pytest.raises(assets.AssetError, match="not the whole published file"):
        assets.fetch("the-verdict.txt")


def test_json_without_checksum_must_be_whole(server, tmp_path):
    entries = json.dumps([{"instruction": "Count to two.", "output": "One, two."}]).encode()
    half, whole = body(entries[:-9], claimed="none"), body(entries, claimed="none")
    publish("alpaca_data.json", server.url("/alpaca", half), sha256=None, n_bytes=None)
    with pytest.raises(assets.AssetError, match="not whole JSON"):
        assets.fetch("alpaca_data.json")
    assert nothing_kept(tmp_path)
    server.url("/alpaca", whole)
    assert assets.fetch("alpaca_data.json").path.read_bytes() == entries
    assert assets.fetch("alpaca_data.json").source == "cache"


# The cache ----------------------------------------------------------------------------------------------

def test_corrupt_cached_file_is_replaced(server, tmp_path, capfd):
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    cached = tmp_path / "cache" / "the-verdict.txt"
    cached.parent.mkdir()
    cached.write_bytes(STORY[:-1])
    found = assets.fetch("the-verdict.txt")
    assert found.source == "download" and cached.read_bytes() == STORY
    printed = capfd.readouterr().out
    assert str(cached) in printed and "damaged" in printed and f"{len(STORY) - 1:,} bytes" in printed


def test_two_processes_download_at_once(server, tmp_path):
    both_asked = threading.Barrier(2, timeout=HANGS)

    def together(handler):
        both_asked.wait()
        body(STORY)(handler)

    url = server.url("/story", together)
    program = (
        "import dataclasses, hashlib\n"
        "from shared import assets\n"
        f"facts = dict(urls=({url!r},), sha256={hashlib.sha256(STORY).hexdigest()!r}, n_bytes={len(STORY)})\n"
        "assets.ASSETS['the-verdict.txt'] = dataclasses.replace(assets.ASSETS['the-verdict.txt'], **facts)\n"
        "found = assets.fetch('the-verdict.txt')\n"
        "print(found.source, hashlib.sha256(found.path.read_bytes()).hexdigest())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, text=True, encoding="utf-8",
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        out, err = process.communicate(timeout=HANGS)
        assert out.split() == ["download", hashlib.sha256(STORY).hexdigest()], err
    assert server.requests == ["/story", "/story"]
    assert files_in(tmp_path / "cache") == ["the-verdict.txt"]


def test_writers_do_not_share_the_unfinished_file(server, monkeypatch, tmp_path):
    replace, unfinished = os.replace, []
    monkeypatch.setattr(os, "replace", lambda part, path: (unfinished.append(part), replace(part, path)))
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    for _ in range(2):
        assets.fetch("the-verdict.txt").path.unlink()
    assert len(set(unfinished)) == 2 and {p.parent for p in unfinished} == {tmp_path / "cache"}


@pytest.mark.parametrize("call", ["replace", "write"])
def test_full_disk_is_an_error(server, monkeypatch, tmp_path, call):
    write = Path.write_bytes

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def half_written(path, data):
        write(path, data[:100])
        return len(data) if not data else full()

    publish("the-verdict.txt", server.url("/story", body(STORY)))
    if call == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(assets.AssetError, match=r"the-verdict\.txt .*no space is left"):
        assets.fetch("the-verdict.txt")
    assert nothing_kept(tmp_path)


def test_cache_that_is_a_file(server, monkeypatch, tmp_path, capfd):
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "a-file"))
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    publish("SMSSpamCollection", server.url("/sms.zip", body(zipped(MESSAGES))), content=MESSAGES)
    found = assets.fetch("the-verdict.txt")
    assert found.path.read_bytes() == STORY and found.path.is_relative_to(tmp_path / "temporary")
    assert assets.fetch("SMSSpamCollection").source == "download"
    printed = capfd.readouterr().out
    assert printed.count("\n") == 1 and str(tmp_path / "a-file") in printed and "COURSE_CACHE" in printed
    assert assets.fetch("the-verdict.txt").source == "cache" and len(server.requests) == 2


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_read_only_cache(server, monkeypatch, tmp_path, capfd, code):
    cache, write = tmp_path / "cache", Path.write_bytes
    cache.mkdir()
    (cache / "SMSSpamCollection").write_bytes(MESSAGES)

    def write_elsewhere(path, data):
        if path.is_relative_to(cache):
            raise OSError(code, os.strerror(code))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_elsewhere)
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    publish("SMSSpamCollection", "http://127.0.0.1:9/never", content=MESSAGES)
    assert assets.fetch("SMSSpamCollection").source == "cache"      # reading is still allowed
    assert assets.fetch("the-verdict.txt").path.is_relative_to(tmp_path / "temporary")
    assert os.strerror(code) in capfd.readouterr().out


def test_no_writable_folder_at_all(server, monkeypatch, tmp_path):
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "a-file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a-file"))
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    with pytest.raises(assets.AssetError, match="COURSE_CACHE"):
        assets.fetch("the-verdict.txt")


@pytest.mark.parametrize("other_notebook_wrote", [STORY, STORY[:50]])
def test_file_in_use_by_another_notebook(server, monkeypatch, tmp_path, other_notebook_wrote):
    def in_use(_part, path):       # what Windows answers while another program reads the file
        Path(path).write_bytes(other_notebook_wrote)
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(os, "replace", in_use)
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    if other_notebook_wrote == STORY:
        assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY
    else:
        with pytest.raises(assets.AssetError, match=r"the-verdict\.txt cannot be written \(Access is denied\)"):
            assets.fetch("the-verdict.txt")
    assert files_in(tmp_path / "cache") == ["the-verdict.txt"]


def test_interrupt_while_waiting(server, tmp_path):
    def interrupt(handler):
        _thread.interrupt_main()
        hang(handler)

    publish("the-verdict.txt", server.url("/story", interrupt), patience=HANGS)     # the server hangs all the while
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("the-verdict.txt")
    assert nothing_kept(tmp_path)


def test_interrupt_while_saving(server, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("the-verdict.txt")
    assert nothing_kept(tmp_path)


def test_cache_folder(monkeypatch, tmp_path):
    assert assets.cache_folder() == tmp_path / "cache" and not (tmp_path / "cache").exists()
    monkeypatch.setenv("COURSE_CACHE", "kept")
    assert assets.cache_folder() == ROOT / "kept"
    monkeypatch.delenv("COURSE_CACHE")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "win32")
    assert assets.cache_folder() == tmp_path / "AppData" / "llm-course"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert assets.cache_folder() == tmp_path / ".cache" / "llm-course"


def test_without_a_home_folder_the_spare_cache_serves(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("COURSE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", no_home)
    assert assets.cache_folder().parent == tmp_path / "temporary"
    assert assets.use_offline_vocabulary().is_relative_to(tmp_path / "temporary")


@pytest.mark.skipif(os.name == "nt", reason="Windows takes ~name for a folder beside one's own home")
@pytest.mark.parametrize(("setting", "look"), [("COURSE_DATA", assets.data_folder),
                                               ("COURSE_CACHE", assets.cache_folder)])
def test_home_of_nobody_is_an_error_that_names_the_setting(monkeypatch, setting, look):
    monkeypatch.setenv(setting, "~no-such-user-here/x")
    with pytest.raises(assets.AssetError, match=f"{setting} is '~no-such-user-here/x'.*full path"):
        look()


# COURSE_DATA --------------------------------------------------------------------------------------------

@pytest.fixture
def data_folder(monkeypatch, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("COURSE_DATA", str(folder))
    return folder


def test_folder_comes_before_the_cache(server, data_folder, tmp_path):
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    assert assets.fetch("the-verdict.txt").source == "download"      # the folder does not have it
    (data_folder / "the-verdict.txt").write_bytes(STORY)
    assert assets.fetch("the-verdict.txt") == assets.Found("the-verdict.txt", data_folder / "the-verdict.txt", "folder")
    assert server.requests == ["/story"]


def test_relative_folder_counts_from_the_course(monkeypatch, data_folder, tmp_path):
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    (data_folder / "the-verdict.txt").write_bytes(STORY)
    monkeypatch.setattr(places, "ROOT", tmp_path / "course")
    (tmp_path / "course").mkdir()
    monkeypatch.setenv("COURSE_DATA", os.path.join("..", "data"))
    assert assets.find("the-verdict.txt").source == "folder"


def test_wrong_file_in_the_folder(data_folder):
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    wrong = STORY.replace(b"\r\n", b"\n")
    (data_folder / "the-verdict.txt").write_bytes(wrong)
    for call in (assets.find, assets.fetch):
        with pytest.raises(assets.AssetError) as caught:
            call("the-verdict.txt")
        for data in (wrong, STORY):
            assert hashlib.sha256(data).hexdigest()[:12] in str(caught.value)
            assert f"{len(data):,} bytes" in str(caught.value)
        for part in (str(data_folder / "the-verdict.txt"), "Replace it", "remove it", "COURSE_DATA"):
            assert part in str(caught.value)
    assert (data_folder / "the-verdict.txt").read_bytes() == wrong      # it is the learner's: not touched


def test_unreadable_file_in_the_folder(data_folder):
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    (data_folder / "the-verdict.txt").mkdir()
    with pytest.raises(assets.AssetError, match="cannot be read"):
        assets.find("the-verdict.txt")


def test_course_data_is_no_folder(monkeypatch, tmp_path):
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    for call in (assets.find, assets.fetch):
        with pytest.raises(assets.AssetError, match="COURSE_DATA.*nowhere"):
            call("the-verdict.txt")
    with pytest.raises(assets.AssetError, match="COURSE_DATA.*nowhere"):
        assets.gpt2_vocabulary()


def test_without_checksum_any_file_but_an_empty_one(data_folder):
    publish("alpaca_data.json", "http://127.0.0.1:9/never", sha256=None, n_bytes=None)
    (data_folder / "alpaca_data.json").write_bytes(b"[]")
    assert assets.find("alpaca_data.json").source == "folder"
    (data_folder / "alpaca_data.json").write_bytes(b"")
    with pytest.raises(assets.AssetError, match="empty"):
        assets.find("alpaca_data.json")


# Reading, the table, the import -------------------------------------------------------------------------

def test_text_keeps_its_characters(tmp_path):
    text = "one\r\ntwo\nthree\rfour — ünï\u2028five"
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert assets.read_text(path) == assets.Found("text.txt", path, "cache").read_text() == text


def test_a_byte_order_mark_is_no_character(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo".encode())
    assert assets.read_text(path) == "one\r\ntwo"


def test_utf_16_is_refused(tmp_path):
    path = tmp_path / "wide.txt"
    path.write_bytes("one two".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"wide\.txt.*NUL characters.*UTF-16.*save it with the encoding UTF-8"):
        assets.read_text(path)


def test_other_encodings_are_refused(tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes("caf\u00e9 \u2014".encode("cp1252"))
    with pytest.raises(ValueError, match=r"old\.txt.*byte 3 is 0xe9.*save it with the encoding UTF-8") as caught:
        assets.read_text(path)
    assert not isinstance(caught.value, UnicodeDecodeError)      # whose message is the codec's, not ours


def test_expected_figure_follows_the_source():
    for source in ("folder", "cache", "download", "sample"):
        found = assets.Found("the-verdict.txt", Path("x"), source)
        assert found.expect(real=5145, sample=4600) == (4600 if source == "sample" else 5145)


@pytest.mark.parametrize("call", [assets.find, assets.fetch])
def test_unknown_name(call):
    publish("the-verdict.txt", "http://127.0.0.1:9/never")
    with pytest.raises(ValueError, match="'verdict.txt'.*the-verdict.txt"):
        call("verdict.txt")


def test_published_table():
    assert list(PUBLISHED) == ["the-verdict.txt", "SMSSpamCollection", "instruction-data.json", "alpaca_data.json"]
    for name, asset in PUBLISHED.items():
        assert asset.name == name and asset.licence
        assert asset.urls and all(u.startswith("https://") and "\\" not in u and " " not in u for u in asset.urls)
        assert (asset.member is not None) == asset.urls[0].endswith(".zip")
        assert (asset.sha256 is None) == (asset.n_bytes is None) == (asset.sample is None)


def test_import_needs_the_standard_library_only():
    program = (
        "import sys; before = set(sys.modules); import shared.assets\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    ran = subprocess.run([sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-c", program],
                         cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=HANGS)
    assert ran.stdout.split() == ["shared"], ran.stderr


# GPT-2's vocabulary -------------------------------------------------------------------------------------

def test_tiktoken_works_without_network(tmp_path):
    program = (
        "import socket\n"
        "class Blocked:\n"
        "    def __init__(self, *args, **kwargs): raise OSError('no network in this test')\n"
        "def blocked(*args, **kwargs): raise OSError('no network in this test')\n"
        "socket.socket, socket.create_connection, socket.getaddrinfo = Blocked, blocked, blocked\n"
        "from shared import assets\n"
        "folder = assets.use_offline_vocabulary()\n"
        "import tiktoken\n"
        "print(folder, tiktoken.get_encoding('gpt2').encode('Akwirw ier'), sep='\\n')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
                         encoding="utf-8", timeout=HANGS)
    assert ran.stdout.splitlines() == [str(tmp_path / "cache" / "tiktoken"), str(GPT2_IDS)], ran.stderr


def test_vocabulary_matches_what_tiktoken_pins():
    openai_public = pytest.importorskip("tiktoken_ext.openai_public")
    source = inspect.getsource(openai_public.gpt2)
    for asset in vocabulary._VOCABULARY.values():
        assert f'"{asset.urls[0]}"' in source and f'"{asset.sha256}"' in source


def test_vocabulary_is_copied_once(monkeypatch, tmp_path):
    folder = assets.use_offline_vocabulary()
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(folder) == str(tmp_path / "cache" / "tiktoken")
    first = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    # What is complete needs neither the package nor a write.
    monkeypatch.setattr(vocabulary, "_VOCABULARY_PACKAGE", "no-such-package")
    assert assets.use_offline_vocabulary() == folder
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == first and len(first) == 2


def test_complete_vocabulary_in_a_read_only_cache_is_used(monkeypatch, capfd):
    folder = assets.use_offline_vocabulary()
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")

    def read_only(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    for write in ("write_bytes", "mkdir"):
        monkeypatch.setattr(Path, write, read_only)
    assert assets.use_offline_vocabulary() == folder and capfd.readouterr() == ("", "")


def test_damaged_vocabulary_copy_is_replaced():
    folder = assets.use_offline_vocabulary()
    copies = {p: p.read_bytes() for p in folder.iterdir()}
    for path, data in copies.items():
        path.write_bytes(data[:-1] + b"?")
    assets.use_offline_vocabulary()
    assert {p: p.read_bytes() for p in folder.iterdir()} == copies


def test_own_tiktoken_folder_is_respected(monkeypatch, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "another-encoding").write_bytes(b"mine")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(own))
    assert assets.use_offline_vocabulary() == own and os.environ["TIKTOKEN_CACHE_DIR"] == str(own)
    assert len(files_in(own)) == 3 and (own / "another-encoding").read_bytes() == b"mine"
    assert not (tmp_path / "cache").exists()

    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "a-file"))
    with pytest.raises(assets.AssetError, match="a-file.*cannot be written.*TIKTOKEN_CACHE_DIR"):
        assets.use_offline_vocabulary()


def test_vocabulary_in_the_folder(data_folder):
    encoder, merges = assets.gpt2_vocabulary()
    assert (encoder.name, merges.name) == ("encoder.json", "vocab.bpe") and encoder.parent.name == "data"
    (data_folder / "vocab.bpe").write_bytes(merges.read_bytes())
    assert assets.gpt2_vocabulary() == (encoder, data_folder / "vocab.bpe")
    (data_folder / "vocab.bpe").write_bytes(b"#version: 0.2\n")
    with pytest.raises(assets.AssetError, match=r"vocab\.bpe.*1ce1664773c5"):
        assets.gpt2_vocabulary()


@pytest.mark.parametrize("content", [None, b"{}"])
def test_vocabulary_package_missing_or_damaged(monkeypatch, tmp_path, content):
    class Package:
        def locate_file(self, name):
            return tmp_path / Path(name).name

    if content is None:
        monkeypatch.setattr(vocabulary, "_VOCABULARY_PACKAGE", "no-such-package")
    else:
        (tmp_path / "encoder.json").write_bytes(content)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Package())
    reason = "no-such-package, which is not installed" if content is None else "is damaged"
    with pytest.raises(assets.AssetError, match=f"encoder.json.*{reason}.*-m pip install"):
        assets.gpt2_vocabulary()
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


# The real files, where they lie beside the checkout -----------------------------------------------------

@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name, asset in PUBLISHED.items() if asset.sha256])
def test_real_file_is_verified(monkeypatch, name):
    if not (REAL_DATA / name).is_file():
        pytest.skip(f"{name} does not lie beside the checkout")
    monkeypatch.setattr(table, "ASSETS", PUBLISHED)
    monkeypatch.setenv("COURSE_DATA", os.path.join("..", "shared", "data"))
    found = assets.find(name)
    assert found.source == "folder" and found.path.stat().st_size == PUBLISHED[name].n_bytes
    assert len(found.read_text().encode()) == PUBLISHED[name].n_bytes
