"""Every chapter in JupyterLab in a real browser: run all at the small scale, then use the widgets as a learner does.

Needs Chromium; without it these tests are skipped by name. Chapters 2 and 3 have more tests in ``test_browser.py``.
"""

import re

import pytest
from axe_playwright_python.base import AXE_FILE_PATH  # the file of axe-core that the package brings
from playwright.sync_api import expect

from shared.bench.redraws import redraws_in
from shared.course import chapter_notebook, read_notebook
from shared.notebooks import text_of
from shared.tests.lab import BROWSER, browser_page, errors_and_counts, jupyter_lab, open_notebook, run_all

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

WIDGET = re.compile(r"^(?:quiz|flashcards|message_box|chat_box|ask_box|\w+_explorer)\(", re.MULTILINE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyter_lab(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def page(lab, tmp_path_factory):
    """A browser of its own for each chapter: one that has shown several of them runs out of memory."""
    with browser_page(tmp_path_factory.mktemp("browser")) as page:
        page.set_viewport_size({"width": 1280, "height": 800})
        yield page


# Using the widgets -----------------------------------------------------------------------------------------


# Gives the last cell of code with these words in its source, and with a widget below it, an attribute to be found by.
MARK = """words => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  const place = cells.findLastIndex(c => c.model.type === 'code' && c.model.sharedModel.source.includes(words)
                                    && c.node.querySelector('.jp-OutputArea-output .jupyter-widgets'));
  if (place >= 0) { cells[place].node.dataset.place = place; cells[place].node.scrollIntoView(); }
  return place;
}"""


class Widgets:
    """What a learner does with the controls of one output; each step waits until the picture has followed."""

    def __init__(self, page, words):
        place = page.evaluate(MARK, words)
        assert place >= 0, f"no cell with {words!r} shows a widget"
        self.page, self.output = page, page.locator(f"[data-place='{place}']")
        self.output.scroll_into_view_if_needed()

    def picture(self):
        return self.output.locator(".widget-html-content").last.inner_html()

    def move(self, label, key="ArrowRight", times=1):
        """Press a key on the slider with this label, and wait until the picture is another."""
        before = self.picture()
        row = self.output.locator(".widget-slider, .widget-inline-hbox").filter(
            has=self.page.locator(".widget-label", has_text=re.compile(f"^{re.escape(label)}$"))).first  # fmt: skip
        handle = row.locator(".noUi-handle").first
        handle.focus()
        for _ in range(times):
            handle.press(key)
        self.changed(before)

    def changed(self, before):
        for _ in range(600):
            if self.picture() != before:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("the picture did not change")


def use_ch02(page):
    """An exercise, solved wrongly and then rightly, in its cell."""
    wrong = "def count_windows(n_tokens, max_length, stride):\n    return n_tokens // stride"
    right = wrong.replace("n_tokens // stride", "max(0, (n_tokens - max_length - 1) // stride + 1)")
    for source, words in ((wrong, "Exercise 2.5: not yet."), (right, "Exercise 2.5: every claim holds.")):
        page.evaluate(SOLVE, ["exercise 2.5", 'check("2.5"', source])
        page.get_by_text(words).wait_for()


# Writes into the exercise's cell and runs it and the check after it.
SOLVE = """async ([stub, check, source]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  window.placeOf ??= notebook.widgets.findIndex(c => c.model.sharedModel.source.includes(stub));
  notebook.widgets[window.placeOf].model.sharedModel.setSource(source);
  for (const place of [window.placeOf, notebook.widgets.findIndex(c => c.model.sharedModel.source.startsWith(check))]) {
    notebook.activeCellIndex = place;
    await window.jupyterapp.commands.execute('notebook:run-cell');
  }
  notebook.activeCell.node.scrollIntoView();
}"""


def use_ch03(page):
    """Other heads of the attention explorer."""
    heads = Widgets(page, "attention_explorer(look")
    heads.move("head")
    heads.move("token")


def use_ch04(page):
    size = Widgets(page, "size_explorer(")
    size.move("blocks")
    size.move("width")


def use_ch05(page):
    """Temperature, top-k and top-p move the bars; the button writes another text."""
    sampling = Widgets(page, "sampling_explorer(partial(next_logits, model)")
    sampling.move("temperature", times=3)
    sampling.move("top-k", "ArrowLeft")
    sampling.move("top-p", "ArrowLeft", times=4)
    before = sampling.picture()
    sampling.output.get_by_role("button", name="Write").click()
    sampling.changed(before)
    before = sampling.picture()
    sampling.output.locator("input[type=text]").first.fill("The lamp in the tower")
    sampling.changed(before)


def use_ch06(page):
    """A message typed by the learner."""
    box = Widgets(page, "message_box(")
    before = box.picture()
    box.output.locator("textarea").fill("Congratulations! You won a free prize, call now")
    box.changed(before)
    expect(box.output.locator("svg text", has_text="Congratulations!")).to_have_count(1)
    box.output.locator("textarea").fill("")
    box.output.get_by_text("write something").wait_for()


def use_ch07(page):
    """A question in the chat box, at two temperatures."""
    box = Widgets(page, "chat_box({")
    asked = box.output.locator("b", has_text=re.compile("^you$"))
    expect(asked).to_have_count(1)
    box.output.locator("textarea").fill("Write a short story.")
    box.output.locator("input[type=text]").fill("Words: fox, bell, garden. With: a talk. Ending: at home.")
    for n_answers in (2, 3):
        box.output.get_by_role("button", name="Send").click()
        expect(asked).to_have_count(n_answers)
        box.output.locator(".noUi-handle").first.focus()
        box.output.locator(".noUi-handle").first.press("ArrowRight")
    box.output.get_by_role("button", name="Clear").click()
    expect(asked).to_have_count(0)


def use_appendix_d(page):
    schedule = Widgets(page, "schedule_explorer(")
    schedule.move("warmup")
    schedule.move("initial / peak")
    # What `python3 -m shared bench widgets` times.
    timed = {name: times for name, times in redraws_in(page, moves=1)}
    assert "schedule_explorer, warmup" in timed and len(timed) == 6
    assert all(0 < milliseconds for times in timed.values() for milliseconds in times)


def use_appendix_e(page):
    Widgets(page, "lora_explorer(").move("rank")


# What is looked at everywhere ------------------------------------------------------------------------------

# Cells with a widget call whose output holds no widget.
LACKING = """pattern => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(c => c.model.type === 'code' && new RegExp(pattern, 'm').test(c.model.sharedModel.source))
  .filter(c => !c.node.querySelector('.jp-OutputArea-output .jupyter-widgets'))
  .map(c => c.model.sharedModel.source.slice(0, 60))"""

# Labels and buttons whose text is cut off, and pictures that reach beyond their output.
CUT_OFF = """() => [
  ...[...document.querySelectorAll('.jp-Notebook .jupyter-widgets .widget-label, .jp-Notebook .jupyter-button')]
    .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent),
  ...[...document.querySelectorAll('.jp-OutputArea-output svg, .jp-OutputArea-output img')]
    .filter(e => e.getBoundingClientRect().right > e.closest('.jp-Cell').getBoundingClientRect().right + 1)
    .map(e => 'a picture of ' + Math.round(e.getBoundingClientRect().width) + ' pixels')]"""

# All widgets in one run, since each run of axe looks through the whole page first. JupyterLab's body has no height, and
# what surrounds a cell hides what lies outside the window, so axe would take nearly everything for invisible, and the
# contrast of all texts would pass without being computed. So meanwhile nothing around a widget hides anything, nothing
# else is in the picture, and where a cell reaches beyond the notebook there is the notebook's ground.
AXE = """async () => {
  const boxes = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output .course-keys')];
  const shown = document.createElement('style');
  shown.textContent = `
    :has(.course-keys) { overflow: visible !important; contain: none !important; }
    :has(.jp-Notebook) { background: var(--jp-layout-color0) !important; }
    body :not(:has(.course-keys), .course-keys, .course-keys *) { visibility: hidden !important; }`;
  document.head.append(shown);
  await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const found = await window.axe.run({include: boxes}, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']});
  shown.remove();
  const passed = found.passes.map(rule => [rule.id, rule.nodes.filter(
    n => n.any.concat(n.all).some(c => c.data?.messageKey !== 'hidden')).length]);
  const violations = found.violations.flatMap(v => v.nodes.map(
    n => `${v.id}: ${n.html.slice(0, 160)} ${(n.any[0]?.message ?? '').slice(0, 160)}`));
  return [boxes.length, Object.fromEntries(passed), violations];
}"""

# What ipywidgets itself draws: its sliders are divs with a role and without a name.
NOT_OURS = re.compile(r"noUi-|widget-readout|widget-hslider")


def violations(page):
    """What axe finds in the widgets of the open notebook, without what is ipywidgets' own."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    n_boxes, passed, found = page.evaluate(AXE)
    # It has looked: each widget holds text, and most of them a field.
    assert passed["color-contrast"] >= n_boxes >= 3 and passed["label"], passed
    return [each for each in found if not NOT_OURS.search(each)]


def set_theme(page, name):
    page.evaluate(
        "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: `JupyterLab ${name}`})", name)
    page.wait_for_function("dark => document.body.dataset.jpThemeLight === String(!dark)", arg=name == "Dark")
    # While it changes, JupyterLab covers the page.
    page.wait_for_function("!document.querySelector('#jupyterlab-splash')")


@pytest.mark.parametrize("chapter, use", [
    ("ch02_text_data", use_ch02), ("ch03_attention", use_ch03), ("ch04_gpt_model", use_ch04),
    ("ch05_pretraining", use_ch05), ("ch06_classification", use_ch06), ("ch07_instruction", use_ch07),
    ("appendix_d_training_loop", use_appendix_d), ("appendix_e_lora", use_appendix_e),
])  # fmt: skip
def test_a_chapter_runs_and_its_widgets_follow(lab, page, chapter, use):
    path = chapter_notebook(chapter)
    open_notebook(page, lab, f"{chapter}/{path.name}")
    run_all(page)
    errors, counts = errors_and_counts(page)
    assert errors == 0 and counts == list(range(1, len(counts) + 1))
    code = [text_of(cell["source"]) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    assert len(counts) == len(code) and sum(WIDGET.search(source) is not None for source in code) >= 3
    page.locator(".jp-OutputArea-output .jupyter-widgets").last.wait_for()
    page.wait_for_function(f"pattern => !({LACKING})(pattern).length", arg=WIDGET.pattern.replace("(?:", "("))
    use(page)
    for theme in ("Light", "Dark"):
        set_theme(page, theme)
        assert page.evaluate(CUT_OFF) == [], theme
        assert violations(page) == [], theme
    set_theme(page, "Light")
    # Eight kernels with their models are more than a small machine has memory for.
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
