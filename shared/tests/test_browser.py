"""Chapter notebooks in JupyterLab, in a real browser: start it as a reader does, run all, move what can be moved.

Needs Chromium; without it these tests are skipped by name.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from shared.course import ROOT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

# Waits until JupyterLab has the notebook and an idle kernel; only then is it safe to run cells.
READY = """async path => {
  const app = window.jupyterapp; await app.restored; let panel;
  const pause = () => new Promise(resolve => setTimeout(resolve, 50));
  for (let i = 0; i < 600 && !((panel = app.shell.currentWidget)?.context?.path === path); i++) await pause();
  await panel.context.ready; await panel.sessionContext.ready;
  for (let i = 0; i < 600 && panel.sessionContext.session?.kernel?.status !== 'idle'; i++) await pause();
}"""
# For jumping: headings are found by their text, and a scroll is instant.
SHOW = "words => [...document.querySelectorAll('.jp-Cell')].find(c => c.innerText.includes(words)).scrollIntoView()"
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


def get(url, token=None):
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab, started by the course's own command: (address, token)."""
    home = tmp_path_factory.mktemp("jupyter")
    folders = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    env = {k: v for k, v in os.environ.items() if k != "COURSE_DATA"}
    env |= {**folders, "COURSE_OFFLINE": "1", "COURSE_SCALE": "small"}
    # No question about news; and all cells are in the page, as in the environment that the launcher makes.
    for name, value in {
        "apputils-extension/notification": {"fetchNews": "false"},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        path = home / f"JUPYTER_CONFIG_DIR/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--LabApp.expose_app_in_browser=True"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    log = open(home / "log.txt", "w+", encoding="utf-8")
    server = subprocess.Popen(
        [sys.executable, "-m", "shared", "lab", *options], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        for _ in range(240):
            files = list((home / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))
            if files and get(f"http://127.0.0.1:{port}/login") == 200:
                break
            assert server.poll() is None, (home / "log.txt").read_text(encoding="utf-8")
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}", json.loads(files[0].read_text(encoding="utf-8"))["token"]
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"), executable_path=BROWSER, headless=True, args=QUIET.split()
        )
        context.set_default_timeout(90_000)
        yield context.new_page()
        context.close()


@pytest.fixture(scope="module")
def opened(lab, page):
    """Chapter 2 as a reader of a fresh clone finds it: opened with the token, not run, not trusted by Jupyter."""
    address, token = lab
    page.goto(f"{address}/lab/tree/ch02_text_data/ch02.ipynb?reset&token={token}")
    page.wait_for_function("window.jupyterapp")
    page.evaluate(READY, "ch02_text_data/ch02.ipynb")
    return page


@pytest.fixture(scope="module")
def chapter_2(opened):
    """Chapter 2, run from top to bottom."""
    opened.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return opened


def test_the_server_asks_for_its_token(lab):
    address, token = lab
    assert token and get(f"{address}/api/contents") == 403
    assert get(f"{address}/api/contents", token) == 200


def test_pictures_show_before_anything_is_run(opened):
    """Figures, and in the place of each explorer its picture for the starting values."""
    figures = opened.locator(".jp-OutputArea img[src^='data:image/png']")
    explorers = opened.locator(".jp-OutputArea img[src^='data:image/svg'][alt]")
    explorers.first.wait_for()
    assert figures.count() >= 5 and explorers.count() == 2
    assert explorers.evaluate_all("images => images.map(image => image.naturalWidth > 100)") == [True, True]


def test_the_chapter_runs_from_top_to_bottom(chapter_2):
    assert chapter_2.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    counts = chapter_2.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type === 'code').map(c => c.model.executionCount)"
    )
    assert counts == list(range(1, len(counts) + 1)) and len(counts) > 50


def test_typing_in_the_tokenizer_explorer_draws_new_tokens(chapter_2):
    chapter_2.evaluate(SHOW, "Look for yourself")
    box = chapter_2.locator(".widget-textarea textarea").first
    box.wait_for()
    box.fill("Akwirw ier")
    chapter_2.get_by_text("10 characters, 10 bytes, 6 tokens").wait_for()
    assert chapter_2.locator("svg text", has_text="33901").count() == 1


def test_moving_a_slider_of_the_window_explorer_changes_the_rows(chapter_2):
    chapter_2.evaluate(SHOW, "Move the sliders below")
    chapter_2.get_by_text("neighbouring rows share 2 tokens").wait_for()
    handle = chapter_2.locator(".widget-slider .noUi-handle").nth(1)  # the stride
    handle.focus()
    handle.press("ArrowRight")
    chapter_2.get_by_text("neighbouring rows share 1 token").wait_for()
    handle.press("ArrowRight")
    chapter_2.get_by_text("no token is an input twice").wait_for()
