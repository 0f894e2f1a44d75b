"""fetch_gpt2: finding the files, downloading them through huggingface_hub from a server on this machine, stand-in."""

import errno
import hashlib
import http.server
import json
import threading

import huggingface_hub
import huggingface_hub.constants
import pytest

from shared import assets
from shared.assets import download, gpt2, places

CONFIG = json.dumps({"vocab_size": 5, "n_positions": 4, "n_embd": 2, "n_layer": 1, "n_head": 1}).encode()
WEIGHTS = bytes(range(256)) * 40


class Hub(http.server.ThreadingHTTPServer):
    """Answers like Hugging Face for one repository; ``broken`` breaks the weights off in the middle that many times."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
        self.broken, self.requests = 0, []

    def handle_error(self, request, client_address):
        pass


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.server.requests.append((self.command, self.path))
        name = self.path.rsplit("/", 1)[-1]
        data = self.server.files.get(name)
        if data is None or "/openai-community/gpt2/resolve/main/" not in self.path:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if with_body:
            half = name == "model.safetensors" and self.server.broken > 0
            self.server.broken -= half
            self.wfile.write(data[start : start + (len(data) - start) // 2] if half else data[start:])
            if half:
                self.close_connection = True

    def log_message(self, *_):
        pass


def serve_from(address, monkeypatch):
    """What HF_ENDPOINT does when it is set before huggingface_hub is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch):
    with Hub() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        serve_from(f"http://127.0.0.1:{running.server_port}", monkeypatch)
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    for name in ("COURSE_DATA", "COURSE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "_unreachable", {})
    monkeypatch.setattr(gpt2, "_reported_stand_ins", set())
    monkeypatch.setattr(gpt2, "_no_gpt2", {})
    monkeypatch.setattr(download, "RETRY_PAUSE", 0.01)
    serve_from("http://127.0.0.1:9", monkeypatch)     # nobody answers there


def test_download_then_no_more_network(hub, tmp_path, capsys):
    folder = assets.fetch_gpt2("124M", "gpt2")
    assert folder == tmp_path / "cache" / "gpt2" / "124M"
    assert (folder / "config.json").read_bytes() == CONFIG and (folder / "model.safetensors").read_bytes() == WEIGHTS
    hub.requests.clear()
    assert assets.fetch_gpt2("124M", "gpt2") == folder and not hub.requests
    assert "stands in" not in capsys.readouterr().out


def test_an_absolute_folder_is_taken_as_it_is(hub, tmp_path):
    assert assets.fetch_gpt2("124M", tmp_path / "mine") == tmp_path / "mine" / "124M"


def test_a_broken_transfer_leaves_nothing_half(hub, tmp_path):
    """Whether it is resumed or given up: the file is whole or not there."""
    hub.broken = 1
    folder = assets.fetch_gpt2("124M")
    path = tmp_path / "cache" / "gpt2" / "124M" / "model.safetensors"
    if folder == path.parent:
        assert path.read_bytes() == WEIGHTS
    else:
        assert folder.name.startswith("small-model-") and not path.exists()
    hub.broken = 0
    gpt2._no_gpt2.clear()     # as after a restart
    assert assets.fetch_gpt2("124M") == path.parent and path.read_bytes() == WEIGHTS


def test_what_lies_in_course_data_comes_first(hub, monkeypatch, tmp_path):
    folder = tmp_path / "data" / "gpt2" / "124M"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    assert assets.fetch_gpt2("124M") != folder      # half of it is not enough
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    hub.requests.clear()
    assert assets.fetch_gpt2("124M") == folder and not hub.requests


@pytest.mark.parametrize("why", ["COURSE_OFFLINE is set", "no connection", "HTTP status 404"])
def test_without_weights_a_stand_in_and_one_line(ch05, monkeypatch, request, capsys, why):
    if why == "COURSE_OFFLINE is set":
        monkeypatch.setenv("COURSE_OFFLINE", "1")
    elif why == "HTTP status 404":
        request.getfixturevalue("hub").files.clear()
    settings, params = ch05.download_and_load_gpt2("124M", "gpt2")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and why in said and "the course's own small model (13M) stands in" in said
    assert "https://huggingface.co/openai-community/gpt2 and put them into" in said
    model = ch05.GPTModel(ch05.config_of(settings))
    ch05.load_weights_into_gpt(model, params)
    assert settings["n_vocab"] == 50_257 and settings["n_embd"] == 192
    ch05.download_and_load_gpt2("124M", "gpt2")
    assert not capsys.readouterr().out      # said once


def test_one_answer_until_a_restart(hub):
    """A second call in the same notebook must not give other weights than the first."""
    files = dict(hub.files)
    hub.files.clear()
    stand_in = assets.fetch_gpt2("124M")
    hub.files |= files
    assert assets.fetch_gpt2("124M") == stand_in


def test_a_login_page_leads_to_the_stand_in(hub, capsys):
    hub.files["config.json"] = b"<html>log in</html>"
    assert assets.fetch_gpt2("124M").name.startswith("small-model-")
    assert "what arrived is not the published file" in capsys.readouterr().out


def test_a_spare_cache_is_looked_in(hub, monkeypatch, tmp_path):
    """Where the usual cache cannot be written, the next call finds what the first has downloaded."""
    monkeypatch.setattr(places, "spare_cache", lambda: tmp_path / "spare")
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    folder = assets.fetch_gpt2("124M")
    assert folder == tmp_path / "spare" / "gpt2" / "124M"
    hub.requests.clear()
    assert assets.fetch_gpt2("124M") == folder and not hub.requests


def test_another_size_is_refused(ch05):
    with pytest.raises(ValueError, match="no GPT-2 of size '125M'; the sizes are 124M, 355M, 774M, 1558M, and 13M"):
        ch05.download_and_load_gpt2("125M", "gpt2")


def test_a_full_disk_is_an_error_with_a_remedy(hub, monkeypatch):
    def full(*args, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(assets.AssetError, match="no space is left on the disk"):
        assets.fetch_gpt2("124M")
