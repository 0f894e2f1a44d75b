"""A full disk, a process that is killed, two at once, a cache that vanishes, proxies and certificates: nothing is lost.

Most faults of downloads stand in ``test_assets.py`` and ``test_smollm2_asset.py``, those of a training run in
``test_ch05_checkpoints.py`` and ``test_train.py``.
"""

import contextlib
import hashlib
import http.server
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import threading
import time

import pytest
import torch

from shared import assets, checkpoints, course, gguf_files, token_files
from shared.assets import table
from shared.records import page, record
from shared.study import progress
from shared.tests.limits import HANGS
from shared.tests.test_assets import (  # noqa: F401 (fixtures)
    STORY,
    body,
    files_in,
    isolated,
    publish,
    running_server,
    server,
    stall,
)

# A full disk -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_system(place, options):
    """A file system of its own at a new folder; skips the test where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB."""
    with file_system(tmp_path / "disk", "size=64k") as place:
        yield place


def fill(place):
    """Leave no room for a further page."""
    with contextlib.suppress(OSError), open(place / "rest", "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def tiny_model(ch05, width=8):
    cfg = {"vocab_size": 260, "context_length": 8, "emb_dim": width, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0,
           "qkv_bias": True}  # fmt: skip
    return ch05.GPTModel(cfg), cfg


def save_a_checkpoint(ch05, place):
    model, cfg = tiny_model(ch05)
    checkpoints.save_checkpoint(place / "run.pth", model, torch.optim.AdamW(model.parameters()), cfg,
                                checkpoints.Progress(1))  # fmt: skip


def write_a_gguf_file(ch05, place):
    tensors = [("a.weight", torch.zeros(40, 100))]
    gguf_files.write_gguf(place / "model.gguf", "gpt2", {"gpt2.block_count": 1}, tensors)


def write_tokens(ch05, place):
    class Bytes:
        def encode(self, text, **_):
            return list(text.encode())

    token_files.write_token_file(["a word " * 2_000], place / "tokens.bin", Bytes())


def write_a_record(ch05, place):
    course.write_file(place / "record.html", page.as_html(
        {"format": 1, "learner": "a" * 12_000, "made": str(time.monotonic()), "versions": {}, "exercises": [],
         "quizzes": [], "cards": 0}
    ).encode())  # fmt: skip


@pytest.mark.parametrize("write, name", [(save_a_checkpoint, "run.pth"), (write_a_gguf_file, "model.gguf"),
                                         (write_tokens, "tokens.bin"), (write_a_record, "record.html")])  # fmt: skip
def test_on_a_full_disk_the_old_file_stays(ch05, small_disk, write, name):
    write(ch05, small_disk)
    old = (small_disk / name).read_bytes()
    fill(small_disk)
    with pytest.raises((OSError, course.FileProblem)) as caught:
        write(ch05, small_disk)
    assert "space" in str(caught.value).lower() or "disk full" in str(caught.value)
    assert (small_disk / name).read_bytes() == old
    assert sorted(path.name for path in small_disk.iterdir()) == sorted([name, "rest"])


def test_progress_on_a_full_disk_is_told_once_and_the_old_is_kept(small_disk, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROGRESS", str(small_disk))
    monkeypatch.setattr(progress, "_told", set())
    progress.record_exercise("2.1", "right")
    fill(small_disk)
    for _ in range(3):
        progress.update("exercises", "2.2", lambda known: {"outcome": "x" * 9_000, "tries": 1})
    assert capsys.readouterr().out.count("could not be kept") == 1
    (small_disk / "rest").unlink()
    assert list(progress.load()["exercises"]) == ["2.1"]


def test_a_download_onto_a_full_disk_keeps_nothing(small_disk, server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COURSE_CACHE", str(small_disk / "cache"))
    (small_disk / "cache").mkdir()
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    fill(small_disk)
    with pytest.raises(assets.AssetError, match="no space is left"):
        assets.fetch("the-verdict.txt")
    assert files_in(small_disk / "cache") == []
    (small_disk / "rest").unlink()
    assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY


# Killed ----------------------------------------------------------------------------------------------------

WRITES = {
    "write_file": "course.write_file(path, version(n))",
    "whole_file": "with course.whole_file(path) as file:\n        for at in range(0, 200_000, 1_000):\n"
                  "            file.write(version(n)[at : at + 1_000])",
}  # fmt: skip
WRITER = """
import sys
from pathlib import Path
from shared import course
path = Path(sys.argv[1])
def version(n):
    return bytes([n % 251]) * 200_000
for n in range(10**9):
    {write}
    if n == 0:
        print("begun", flush=True)
"""


def is_whole(data):
    return len(data) == 200_000 and len(set(data)) == 1


@pytest.mark.skipif(os.name == "nt", reason="kills in the way of POSIX")
@pytest.mark.parametrize("how", sorted(WRITES))
def test_whoever_is_killed_while_writing_leaves_a_whole_file(tmp_path, how):
    path, rng = tmp_path / "own" / "file", random.Random(how)
    path.parent.mkdir()
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER.format(write=WRITES[how]), str(path)], cwd=course.ROOT,
                                   stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdout.readline() == b"begun\n"
        time.sleep(rng.random() / 20)
        process.kill()
        process.wait()
        process.stdout.close()
        assert is_whole(path.read_bytes())
    if how == "whole_file":  # what the last one left goes with the next one that writes
        with course.whole_file(path) as file:
            file.write(b"\0" * 200_000)
        assert files_in(path.parent) == ["file"]


@pytest.mark.parametrize("how", sorted(WRITES))
def test_two_that_write_the_same_file_do_not_mix(tmp_path, how):
    """Two kernels that run the same chapter: whatever stands there is what one of them has written."""
    path = tmp_path / "file"
    command = [sys.executable, "-c", WRITER.format(write=WRITES[how]), str(path)]
    writers = [subprocess.Popen(command, cwd=course.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(2)]  # fmt: skip
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"begun\n"
        for _ in range(200):
            with contextlib.suppress(PermissionError):  # Windows, while it is replaced
                assert is_whole(path.read_bytes())
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


FETCH = """
import dataclasses
from shared import assets
facts = dict(urls=({url!r},), sha256={sha256!r}, n_bytes={n_bytes}, patience=600)
assets.ASSETS["the-verdict.txt"] = dataclasses.replace(assets.ASSETS["the-verdict.txt"], **facts)
assets.fetch("the-verdict.txt")
"""


def test_a_kernel_that_is_killed_during_a_download_leaves_nothing_that_looks_whole(server, tmp_path):  # noqa: F811
    url = server.url("/story", stall, body(STORY))
    program = FETCH.format(url=url, sha256=hashlib.sha256(STORY).hexdigest(), n_bytes=len(STORY))
    process = subprocess.Popen([sys.executable, "-c", program], cwd=course.ROOT)
    assert server.asked("/story")
    time.sleep(0.2)  # some of the 5,000 bytes have come
    process.kill()
    process.wait()
    assert "the-verdict.txt" not in files_in(tmp_path / "cache")
    publish("the-verdict.txt", url)
    assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY


# The cache vanishes, nobody may write, the network is not what it seems ---------------------------------------


def test_a_cache_that_is_deleted_while_in_use(server):  # noqa: F811
    """What was found is gone; whoever asks again gets it again, and a file that is still open can be read."""
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    found = assets.fetch("the-verdict.txt")
    with open(found.path, "rb") as file:
        shutil.rmtree(found.path.parent, ignore_errors=True)
        assert os.name == "nt" or file.read() == STORY
    if not found.path.exists():
        with pytest.raises((OSError, assets.AssetError), match="the-verdict.txt"):
            found.read_text()
    assert assets.fetch("the-verdict.txt").read_text().startswith("It was a fine morning")


def test_a_cache_that_is_deleted_again_and_again(server, tmp_path):  # noqa: F811
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    stop = threading.Event()

    def delete():
        while not stop.is_set():
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            time.sleep(0.001)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for _ in range(30):
            with contextlib.suppress(assets.AssetError):
                found = assets.fetch("the-verdict.txt")
                with contextlib.suppress(OSError):
                    assert found.path.read_bytes() == STORY
    finally:
        stop.set()
        thread.join()
    assert assets.fetch("the-verdict.txt").path.read_bytes() == STORY


READ_ONLY = """
import sys
from shared.notebook_setup import prepare
prepare()
from shared import assets
from shared.exercises import check
from shared.study import progress
print(assets.fetch("the-verdict.txt").is_sample)
def softmax_rows(rows):
    return rows
check("3.4", softmax_rows)
import matplotlib.pyplot as plt
plt.figure()
print("done", assets.gpt2_vocabulary()[0].is_file())
"""


def test_a_home_that_nobody_may_write_to(tmp_path):
    with file_system(tmp_path / "home", "ro") as home:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("COURSE_", "XDG_", "TIKTOKEN", "MPL"))}
        run = subprocess.run([sys.executable, "-c", READ_ONLY], cwd=course.ROOT, capture_output=True, text=True,
                             env={**kept, "HOME": str(home), "COURSE_OFFLINE": "1"}, timeout=HANGS)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Exercise 3.4: not yet." in run.stdout and run.stdout.endswith("done True\n")
    assert "your progress" in run.stdout and run.stdout.count("set COURSE_PROGRESS") == 1


def test_a_proxy_that_is_not_there(server, monkeypatch, capsys):  # noqa: F811
    """The sample stands in, with one line; addresses of this machine are asked without it, as NO_PROXY says."""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    publish("the-verdict.txt", server.url("/story", body(STORY)))
    found = assets.fetch("the-verdict.txt")
    assert found.is_sample and not server.requests
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "could not be downloaded" in printed


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request itself, as a company's proxy does that asks for a password, or a hotel's."""

    status, content = 407, b""

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status, content", [(407, b""), (200, b"<html>Please log in</html>"), (302, b""), (511, b"")])
def test_a_proxy_that_answers_itself(monkeypatch, tmp_path, status, content):
    """No page of a proxy is ever taken for the data: a sample, or an error that says what came."""
    handler = type("Now", (Proxy,), {"status": status, "content": content})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.delenv("no_proxy", raising=False)
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
        publish("the-verdict.txt", "http://a-server.invalid/story")
        with contextlib.suppress(assets.AssetError):
            assert assets.fetch("the-verdict.txt").is_sample
        proxy.shutdown()
    assert files_in(tmp_path / "cache") == []


def test_a_certificate_that_nobody_knows(tmp_path, capsys):
    """A server that speaks TLS with a certificate of its own, as some networks put between: it is not believed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    handler = type("Story", (Proxy,), {"status": 200, "content": STORY})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        running.socket = context.wrap_socket(running.socket, server_side=True)
        running.handle_error = lambda *_: None
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        publish("the-verdict.txt", f"https://localhost:{running.server_port}/story")
        assert assets.fetch("the-verdict.txt").is_sample
        running.shutdown()
    assert "could not be downloaded" in capsys.readouterr().out and files_in(tmp_path / "cache") == []


def test_bits_that_change_on_the_way(server, tmp_path):  # noqa: F811
    """A hundred answers with one byte changed, missing or added: each is refused, and none is kept."""
    rng = random.Random(7)
    for number in range(100):
        data = bytearray(STORY)
        place = rng.randrange(len(data))
        change = rng.choice(("changed", "missing", "added"))
        if change == "changed":
            data[place] ^= 1 << rng.randrange(8)
        elif change == "missing":
            del data[place]
        else:
            data.insert(place, 7)
        publish("the-verdict.txt", server.url(f"/{number}", body(bytes(data))))
        with pytest.raises(assets.AssetError):
            assets.fetch("the-verdict.txt")
    assert files_in(tmp_path / "cache") == [] and len(table.ASSETS) == 1


# A record while its parts change ---------------------------------------------------------------------------


def test_a_record_from_a_damaged_progress_file_and_a_broken_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))
    monkeypatch.setattr(progress, "_told", set())
    (tmp_path / "progress.json").write_text("{", encoding="utf-8")
    assert record.main([str(tmp_path / "record.html")]) == 0
    assert "was damaged; it was set aside" in capsys.readouterr().out
    broken = tmp_path / "ch02.ipynb"
    broken.write_text("{", encoding="utf-8")
    monkeypatch.setattr(page, "chapter_notebook", lambda chapter, root: broken)
    old = (tmp_path / "record.html").read_bytes()
    assert record.main([str(tmp_path / "record.html")]) == 1
    assert "is no notebook" in capsys.readouterr().err and (tmp_path / "record.html").read_bytes() == old
    assert json.loads(old.decode().split('">\n')[-1].split("\n</script>")[0])["exercises"] == []
