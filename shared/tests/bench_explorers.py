"""Measures, in a real browser, how long an explorer takes from the press of a key to the new picture.

    python3 -m shared.tests.bench_explorers [part of a notebook's path]

Medians over the presses of an arrow key on one slider; needs Chromium.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from shared.tests.lab import SHOW, browser_page, jupyter_lab, open_notebook, run_all

# Notebook, words of the cell before the explorer, and which slider of that explorer is moved.
EXPLORERS = [
    ("ch02_text_data/ch02.ipynb", "Move the sliders below", 1),
    ("ch03_attention/ch03.ipynb", "Step through both with the slider", 0),
    ("ch03_attention/ch03.ipynb", "Look at the heads", 2),
    ("ch05_pretraining/ch05.ipynb", "Explore: what each control does", 0),
    ("ch05_pretraining/ch05.ipynb", "Explore: what each control does", 1),
]
# Time from the key press to the change of the picture in the same output, in milliseconds.
WATCH = """handle => new Promise(done => {
  const output = handle.closest('.jp-OutputArea'), picture = output.querySelector('.widget-html-content');
  let start; const old = picture.innerHTML;
  new MutationObserver(() => { if (picture.innerHTML !== old) done(performance.now() - start); })
    .observe(picture, {childList: true, subtree: true, characterData: true});
  window.addEventListener('keydown', () => { start = performance.now(); }, {once: true, capture: true});
})"""


def main(moves=10, only=""):
    opened = None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with jupyter_lab(Path(folder) / "jupyter") as server, browser_page(Path(folder) / "browser") as page:
            for notebook, words, slider in (each for each in EXPLORERS if only in each[0]):
                if notebook != opened:
                    open_notebook(page, server, notebook)
                    run_all(page)
                    opened = notebook
                page.evaluate(SHOW, words)
                page.wait_for_timeout(500)
                cell = page.locator(".jp-Cell", has_text=words).last
                after = page.locator(".jp-Cell", has=page.locator(".widget-html-content")).filter(
                    has=page.locator(".widget-slider")
                )
                below = [c for c in after.all() if c.bounding_box()["y"] > cell.bounding_box()["y"]][0]
                handle = below.locator(".widget-slider .noUi-handle").nth(slider)
                times = []
                for move in range(moves):
                    handle.focus()
                    element = handle.element_handle()
                    waiting = page.evaluate_handle("handle => { window.changed = (" + WATCH + ")(handle); }", element)
                    handle.press("ArrowRight" if move % 2 == 0 else "ArrowLeft")
                    times.append(page.evaluate("() => window.changed"))
                    waiting.dispose()
                print(f"{words:40} median {statistics.median(times):4.0f} ms, longest {max(times):4.0f} ms")


if __name__ == "__main__":
    main(only=sys.argv[1] if len(sys.argv) > 1 else "")
