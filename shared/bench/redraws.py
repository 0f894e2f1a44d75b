"""How long a widget takes, in a real browser, from the press of a key on a slider to the new picture."""

import tempfile
from pathlib import Path

# Every slider of the open notebook that belongs to an explorer or a box: [number, name].
SLIDERS = r"""() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(cell => {
  const call = /(\w+_(?:explorer|box))\(/.exec(cell.model.sharedModel?.source ?? '');
  const handles = call ? [...cell.node.querySelectorAll('.jp-OutputArea-output .noUi-handle')] : [];
  return handles.map(handle => {
    handle.dataset.redraw = window.redraws = (window.redraws ?? 0) + 1;
    const label = handle.closest('.widget-inline-hbox, .widget-slider').querySelector('.widget-label');
    return [window.redraws, `${call[1]}, ${label?.textContent ?? 'a slider'}`];
  });
})"""

# Milliseconds from the next press of a key to the change of the picture in the same output; null if none comes.
WATCH = """handle => { window.changed = new Promise(done => {
  const picture = [...handle.closest('.jp-OutputArea-output').querySelectorAll('.widget-html-content')].at(-1);
  if (!picture) return done(null);
  let start; const old = picture.innerHTML;
  new MutationObserver(() => { if (picture.innerHTML !== old) done(performance.now() - start); })
    .observe(picture, {childList: true, subtree: true, characterData: true});
  window.addEventListener('keydown', () => { start = performance.now(); }, {once: true, capture: true});
  setTimeout(() => done(null), 5000);
}); }"""


def redraws_in(page, moves):
    """Yield (name, milliseconds of each press) for the sliders of the open notebook, whose cells have been run.

    A slider that changes no picture, such as the temperature of a chat, is left out.
    """
    for number, name in page.evaluate(SLIDERS):
        handle = page.locator(f"[data-redraw='{number}']")
        handle.scroll_into_view_if_needed()
        times = []
        for move in range(moves):
            handle.focus()
            handle.evaluate(WATCH)
            handle.press("ArrowRight" if move % 2 == 0 else "ArrowLeft")
            times.append(page.evaluate("() => window.changed"))
        if None not in times:
            yield name, times


def redraws(notebooks, moves=6):
    """Yield (notebook, name of the slider, milliseconds of each press) for the sliders of notebooks, at small scale.

    Nothing is yielded where there is no Chromium.
    """
    from shared.tests.lab import BROWSER, browser_page, jupyter_lab, open_notebook, run_all

    if BROWSER is None:
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, jupyter_lab(Path(folder)) as server:
        for notebook in notebooks:
            with browser_page(Path(folder) / "browser" / notebook.replace("/", "-")) as page:
                open_notebook(page, server, notebook)
                run_all(page)
                page.locator(".jp-OutputArea-output .jupyter-widgets").last.wait_for()
                page.wait_for_timeout(2_000)    # until the last one has drawn its controls
                for name, times in redraws_in(page, moves):
                    yield notebook, name, times
                page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
