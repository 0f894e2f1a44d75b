"""A local Ollama server, asked over HTTP: what chapter 7's judge needs, with time-outs, retries and plain messages.

The address is ``OLLAMA_HOST`` if that is set, as for Ollama's own programs, else http://localhost:11434.
"""

import json
import os
import time
from urllib.parse import urlsplit

import requests

CONNECT_SECONDS = 3


class ServerProblem(ConnectionError):
    """No answer came from the server. The message names the address and the cause, and says what to do."""


class ServerGone(ServerProblem):
    """Nothing listens at the address; to ask again is of no use."""


class ServerSilent(ServerProblem):
    """The server is there and gave no answer that can be used; another question may fare better."""


def address():
    """Where the server is, as http://host:port without a slash at the end."""
    host = os.environ.get("OLLAMA_HOST", "").strip().rstrip("/") or "localhost:11434"
    host = host if "://" in host else f"http://{host}"
    parts = urlsplit(host)
    name = "localhost" if parts.hostname in ("0.0.0.0", "::", None) else parts.hostname  # an address to listen on only
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}:{parts.port or 11434}"


def _session(url):
    session = requests.Session()
    # A proxy for the outside world knows nothing of this machine's own addresses.
    session.trust_env = urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1")
    return session


def models(url=None, timeout=3):
    """Names of the models that the server has; None if no server answers."""
    url = f"{url or address()}/api/tags"
    try:
        with _session(url) as session:
            found = session.get(url, timeout=(CONNECT_SECONDS, timeout)).json()["models"]
            return [each["name"] for each in found]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None


def _body(reply, deadline):
    """The reply's bytes; requests.Timeout if they are not all there at the deadline, however slowly they drip in."""
    parts = []
    for part in reply.iter_content(1):
        parts.append(part)
        if time.monotonic() > deadline:
            raise requests.Timeout
    return b"".join(parts).decode("utf-8", errors="replace")


def _read(status, body, model):
    """(text, None, False) of a good reply, else (None, why it cannot be used, whether to ask again may help)."""
    if status == 404:
        return None, f"it has no model {model!r}: `ollama pull {model}` fetches it", False
    if status >= 400:
        return None, f"it answered with status {status}: {body[:200].strip()!r}", status >= 500
    try:
        text = json.loads(body)["message"]["content"]
    except (ValueError, KeyError, TypeError):
        return None, f"its answer is not in Ollama's form: {body[:200]!r}", True
    return (text, None, False) if isinstance(text, str) else (None, f"its answer holds no text: {text!r}", True)


def chat(request, url=None, timeout=120, retries=2, pause=1.0):
    """The text that the server answers to a request for /api/chat.

    Args:
        request: a dictionary with ``model`` and ``messages``, and ``stream`` False.
        url: address of the server; None for ``address()``.
        timeout: seconds for each try.
        retries: how often to ask again after silence or a fault of the server.
        pause: seconds before the first retry; before each further one twice as many.

    Raises:
        ServerGone: if nothing listens there.
        ServerSilent: if no try gave an answer in Ollama's form.
    """
    url = url or address()
    with _session(url) as session:
        for attempt in range(retries + 1):
            try:
                deadline = time.monotonic() + timeout
                limits = (CONNECT_SECONDS, timeout)
                with session.post(f"{url}/api/chat", json=request, timeout=limits, stream=True) as reply:
                    text, cause, again = _read(reply.status_code, _body(reply, deadline), request["model"])
                if cause is None:
                    return text
            except requests.RequestException as error:
                if attempt == 0 and "refused" in str(error).lower():
                    raise ServerGone(f"no Ollama server at {url}; start it with `ollama serve`") from None
                if isinstance(error, requests.Timeout) or "timed out" in str(error):
                    cause = f"it gave no answer within {timeout} seconds; allow more, or take a smaller model"
                else:
                    cause = f"the connection broke ({type(error).__name__})"
                again = not isinstance(error, ValueError)  # an address that is none will not become one
            if not again:
                break
            if attempt < retries:
                time.sleep(pause * 2**attempt)
    raise ServerSilent(f"the Ollama server at {url} was asked {attempt + 1} time(s): {cause}")
