"""JupyterLab and a browser for the tests and benchmarks that need both."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from shared.course import ROOT
from shared.tests.limits import HANGS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Waits until JupyterLab has the notebook and an idle kernel; only then is it safe to run cells.
READY = """async path => {
  const app = window.jupyterapp; await app.restored; let panel;
  const pause = () => new Promise(resolve => setTimeout(resolve, 50));
  while (!((panel = app.shell.currentWidget)?.context?.path === path)) await pause();
  await panel.context.ready; await panel.sessionContext.ready;
  while (panel.sessionContext.session?.kernel?.status !== 'idle') await pause();
}"""
SHOW = "words => [...document.querySelectorAll('.jp-Cell')].find(c => c.innerText.includes(words)).scrollIntoView()"
QUIET = ("--no-sandbox --disable-dev-shm-usage --disable-gpu --disable-quic --no-first-run "
         "--disable-background-networking")


def status(url, token=None):
    """HTTP status of a request, or None if nobody answers."""
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@contextlib.contextmanager
def jupyter_lab(home):
    """JupyterLab, started by the course's own command with settings in the folder ``home``: (address, token)."""
    folders = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    env = {k: v for k, v in os.environ.items() if k not in ("COURSE_DATA", "COURSE_TEXT")}
    env |= {**folders, "COURSE_OFFLINE": "1", "COURSE_SCALE": "small", "COURSE_PROGRESS": str(home / "progress")}
    # No question about news; all cells are in the page, as in the environment that the launcher makes; and what is run
    # here must not be saved into the course's notebooks.
    for name, value in {
        "docmanager-extension/plugin": {"autosave": False},
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
    command = [sys.executable, "-m", "shared", "lab", *options]
    server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        files = []
        while True:
            files = list((home / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"))
            if files and status(f"http://127.0.0.1:{port}/login") == 200:
                break
            assert server.poll() is None, (home / "log.txt").read_text(encoding="utf-8")
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}", json.loads(files[0].read_text(encoding="utf-8"))["token"]
    finally:
        server.terminate()
        server.wait(HANGS)
        log.close()


pages = []  # those that are open, for a picture of each when a test fails
PICTURES = ROOT / "shared" / "tests" / "screenshots"


@contextlib.contextmanager
def browser_page(home):
    """A page of headless Chromium whose profile lies in the folder ``home``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home, executable_path=BROWSER, headless=True, args=QUIET.split()
        )
        context.set_default_timeout(HANGS * 1000)
        pages.append(context.new_page())
        yield pages[-1]
        pages.pop()
        context.close()


def keep_screenshots(test):
    """Store what the open pages show, under the name of the test that has just failed; returns the files."""
    files = []
    for number, page in enumerate(pages):
        PICTURES.mkdir(exist_ok=True)
        files.append(PICTURES / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', test)}-{number}.png")
        page.screenshot(path=files[-1])
    return files


def open_notebook(page, server, path):
    """Open a notebook in the page and wait until its kernel is idle."""
    address, token = server
    page.goto(f"{address}/lab/tree/{path}?reset&token={token}")
    page.wait_for_function("window.jupyterapp")
    page.evaluate(READY, path)


def run_all(page):
    """Run all cells of the open notebook and wait for the last one."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


# Puts a cell at the end of the open notebook, runs it, and scrolls there. Nothing of it is saved.
ADD_CELL = """async source => {
  const panel = window.jupyterapp.shell.currentWidget, notebook = panel.content;
  notebook.model.sharedModel.insertCell(notebook.widgets.length, {cell_type: 'code', source});
  notebook.activeCellIndex = notebook.widgets.length - 1;
  await window.jupyterapp.commands.execute('notebook:run-cell');
  notebook.activeCell.node.scrollIntoView();
}"""


def add_cell(page, source):
    """Run a cell of code at the end of the open notebook."""
    page.evaluate(ADD_CELL, source)


def errors_and_counts(page):
    """How many cells of the open notebook show an error, and the execution counts of its code cells."""
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
    counts = page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type === 'code').map(c => c.model.executionCount)"
    )
    return errors, counts
