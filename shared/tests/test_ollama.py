"""Chapter 7's judge over HTTP, against stand-in servers: right, slow, wrong, silent, breaking off and gone."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared import ollama

REQUEST = {"model": "llama3", "messages": [{"role": "user", "content": "hello"}], "stream": False}


def good(text):
    return json.dumps({"message": {"role": "assistant", "content": text}, "done": True}).encode()


class StandIn(ThreadingHTTPServer):
    """Answers each request with the next of ``replies``: bytes, (status, bytes), or a function of the handler."""

    daemon_threads = True

    def __init__(self, replies):
        self.replies, self.asked, self.release = list(replies), [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that has gone away is what some of these tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.give(200, json.dumps({"models": [{"name": "llama3:latest"}]}).encode())

    def do_POST(self):
        self.server.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        reply = self.server.replies.pop(0)
        if callable(reply):
            reply(self)
        else:
            self.give(*(reply if isinstance(reply, tuple) else (200, reply)))

    def give(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """No log in the tests' output."""


@pytest.fixture
def server():
    running = []

    def start(*replies):
        running.append(StandIn(replies))
        threading.Thread(target=running[-1].serve_forever, args=(0.02,), daemon=True).start()
        return running[-1]

    yield start
    for each in running:
        each.release.set()
        each.shutdown()
        each.server_close()


def silent(handler):
    handler.server.release.wait(60)


def dripping(handler):
    """A byte now and then: never silent for long, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.release.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def breaking_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"message"')
    handler.wfile.flush()
    handler.connection.close()


def test_what_is_sent_and_what_comes_back(server):
    stand_in = server(good("85"))
    assert ollama.chat(REQUEST, stand_in.url) == "85"
    assert stand_in.asked == [("/api/chat", REQUEST)]


def test_it_asks_again_after_a_fault(server):
    stand_in = server((503, b"busy"), b"<html>", breaking_off, good("7"))
    assert ollama.chat(REQUEST, stand_in.url, retries=3, pause=0) == "7"
    assert len(stand_in.asked) == 4


def test_it_waits_longer_each_time(server, monkeypatch):
    waited = []
    monkeypatch.setattr(ollama.time, "sleep", waited.append)
    stand_in = server((500, b""), (500, b""), (500, b""))
    with pytest.raises(ollama.ServerSilent, match=r"was asked 3 time\(s\): it answered with status 500"):
        ollama.chat(REQUEST, stand_in.url, retries=2, pause=1.0)
    assert waited == [1.0, 2.0]


@pytest.mark.parametrize("reply", [silent, dripping])
def test_a_server_that_gives_no_answer_in_time(server, reply):
    stand_in = server(reply, reply)
    with pytest.raises(ollama.ServerSilent, match=r"asked 2 time\(s\): it gave no answer within 0.3 seconds"):
        ollama.chat(REQUEST, stand_in.url, timeout=0.3, retries=1, pause=0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"not json", "not in Ollama's form: 'not json'"),
        (b"[]", "not in Ollama's form"),
        (b'{"error": "x"}', "not in Ollama's form"),
        (b'{"message": {"content": null}}', "holds no text: None"),
        (breaking_off, "the connection broke"),
        ((500, b"out of memory"), "status 500: 'out of memory'"),
    ],
)
def test_answers_that_cannot_be_used(server, reply, message):
    stand_in = server(reply, reply)
    with pytest.raises(ollama.ServerSilent, match=message):
        ollama.chat(REQUEST, stand_in.url, retries=1, pause=0)
    assert len(stand_in.asked) == 2


@pytest.mark.parametrize(("status", "message"), [(404, "`ollama pull llama3` fetches it"), (400, "status 400")])
def test_what_will_not_change_is_asked_once(server, status, message):
    stand_in = server((status, b""))
    with pytest.raises(ollama.ServerSilent, match=message):
        ollama.chat(REQUEST, stand_in.url, retries=5, pause=0)
    assert len(stand_in.asked) == 1


def test_a_server_that_is_gone_is_not_waited_for(server):
    stand_in = server()
    stand_in.shutdown()
    stand_in.server_close()
    with pytest.raises(ollama.ServerGone, match="start it with `ollama serve`"):
        ollama.chat(REQUEST, stand_in.url, retries=5, pause=1e6)


def test_models_of_a_server(server):
    assert ollama.models(server().url) == ["llama3:latest"]


def test_no_server_no_models(server):
    stand_in = server()
    stand_in.shutdown()
    stand_in.server_close()
    assert ollama.models(stand_in.url) is None


def test_a_proxy_is_not_asked_about_this_machine(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ollama.chat(REQUEST, server(good("yes")).url) == "yes"


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (None, "http://localhost:11434"),
        ("", "http://localhost:11434"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://localhost:11434"),
        ("https://judge.example/", "https://judge.example:11434"),
        ("[::1]:99", "http://[::1]:99"),
    ],
)
def test_the_address_is_that_of_ollamas_own_programs(monkeypatch, value, want):
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    if value is not None:
        monkeypatch.setenv("OLLAMA_HOST", value)
    assert ollama.address() == want


