#!/usr/bin/env bash
# Radio buttons and dropdowns of ipywidgets cannot be used by keyboard in JupyterLab, and two letters delete the cell.
#
# One would expect: a radio button or a dropdown that has the focus takes the arrow keys, as on any page, and letters
# look for an option; a shortcut of the notebook waits until a cell has the focus.
#
# What happens with jupyterlab 4.6.6 and ipywidgets 8.1.9: a control in an output leaves the notebook in command mode,
# and its shortcuts are caught before the control sees the key. They are held back for elements that can be typed into
# only. So with the focus on
#   - a radio button: the arrow down chooses nothing, and the focus is gone from the control;
#   - a dropdown: the same; typing the first letters of an option, "dd" of "ddp" for example, deletes the notebook's
#     active cell, here the one in which the control stands, its output included.
# A slider takes its arrows. With Lumino's attribute data-lm-suppress-shortcuts on the control, which ipywidgets does not
# set here, all of them work.
#
# Why it matters: quizzes, labelling tools and dashboards in notebooks are closed to those who use no mouse, and the
# loss of a cell can be undone only by those who saw it happen.
#
# Source: run below. Needs Chromium or Chrome in the PATH.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jupyterlab==4.6.6 ipywidgets==8.1.9 ipykernel==7.4.0 playwright==1.65.2
export JUPYTER_CONFIG_DIR="$folder/config" JUPYTER_RUNTIME_DIR="$folder/runtime" IPYTHONDIR="$folder/ipython"
export JUPYTER_DATA_DIR="$folder/data" PATH="$folder/venv/bin:$PATH"
mkdir "$folder/books"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
jupyter lab --no-browser --allow-root --port="$port" --IdentityProvider.token=t --ServerApp.root_dir="$folder/books" \
    --LabApp.expose_app_in_browser=True >"$folder/log.txt" 2>&1 &
server=$!
python - "$folder" "$port" "$browser" <<'PYTHON'
import sys
import time
import urllib.request
from importlib.metadata import version

import nbformat
from playwright.sync_api import sync_playwright

folder, port, browser = sys.argv[1:]
print("jupyterlab", version("jupyterlab"), "ipywidgets", version("ipywidgets"))
controls = """import ipywidgets as w
w.VBox([w.RadioButtons(options=["one", "two", "three"], value=None),
        w.Dropdown(options=["choose", "ddp", "fsdp"]), w.IntSlider(5, 0, 10)])"""
cells = [nbformat.v4.new_code_cell(controls), nbformat.v4.new_markdown_cell("the last cell")]
kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), f"{folder}/books/b.ipynb")
for _ in range(300):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/login")
        break
    except OSError:
        time.sleep(0.2)

RUN = """async () => {
  const app = window.jupyterapp, pause = () => new Promise(done => setTimeout(done, 50));
  await app.restored; let panel;
  while ((panel = app.shell.currentWidget)?.context?.path !== 'b.ipynb') await pause();
  await panel.context.ready; await panel.sessionContext.ready;
  while (panel.sessionContext.session?.kernel?.status !== 'idle') await pause();
  panel.content.activeCellIndex = 0;
  await app.commands.execute('notebook:run-cell');
}"""
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.type)"
MARK = "() => document.querySelectorAll('.jp-OutputArea input, .jp-OutputArea select, .noUi-handle').forEach(" \
       "e => e.setAttribute('data-lm-suppress-shortcuts', 'true'))"


def looks(page, own_keys):
    """What the keys do, on a page that was just opened: radio, dropdown, slider; cells left after two letters."""
    page.goto(f"http://127.0.0.1:{port}/lab/tree/b.ipynb?reset&token=t")
    page.wait_for_function("window.jupyterapp")
    page.evaluate(RUN)
    radio, dropdown = page.locator(".jp-OutputArea input[type=radio]"), page.locator(".jp-OutputArea select")
    slider, readout = page.locator(".noUi-handle"), page.locator(".widget-readout")
    slider.wait_for()
    if own_keys:
        page.evaluate(MARK)

    def press(control, *keys):
        control.focus()
        for key in keys:
            page.keyboard.press(key)
            page.wait_for_timeout(500)

    if not own_keys:                                  # first, because an arrow makes another cell the active one
        press(dropdown, "d", "d")
        left = page.evaluate(CELLS)
        page.evaluate("window.jupyterapp.commands.execute('notebook:undo-cell-action')")
        page.evaluate(RUN)
        slider.wait_for()
    press(radio.first, "ArrowDown")
    found = [[radio.nth(n).is_checked() for n in range(3)]]
    press(dropdown, "ArrowDown")
    found.append(dropdown.evaluate("e => e.selectedOptions[0].text"))
    press(slider, "ArrowRight")
    found.append(readout.inner_text())
    if own_keys:
        press(dropdown, "d", "d")
        left = page.evaluate(CELLS)
    return [*found, left]


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
    page = chromium.new_page()
    page.set_default_timeout(120_000)
    for own_keys in (False, True):
        found = looks(page, own_keys)
        print("with the attribute:" if own_keys else "as it is:          ", *found, sep="  ")
        print("   radio chosen, dropdown, slider, the cells after two letters")
        if own_keys:
            assert found[0] != [False] * 3 and found[1:] == ["ddp", "6", ["code", "markdown"]], found
        else:
            assert found == [[False] * 3, "choose", "6", ["markdown"]], found
    chromium.close()
print("as described")
PYTHON
