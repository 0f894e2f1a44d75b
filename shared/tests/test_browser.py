"""Chapter notebooks in JupyterLab, in a real browser: start it as a reader does, run all, move what can be moved.

Needs Chromium; without it these tests are skipped by name.
"""

import pytest

from shared.tests.lab import BROWSER, SHOW, browser_page, errors_and_counts, jupyter_lab, open_notebook, run_all, status

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyter_lab(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory):
    with browser_page(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def opened(lab, page):
    """Chapter 2 as a reader of a fresh clone finds it: opened with the token, not run, not trusted by Jupyter."""
    open_notebook(page, lab, "ch02_text_data/ch02.ipynb")
    return page


@pytest.fixture(scope="module")
def chapter_2(opened):
    """Chapter 2, run from top to bottom."""
    run_all(opened)
    return opened


@pytest.fixture(scope="module")
def chapter_3(lab, page):
    """Chapter 3, run from top to bottom."""
    open_notebook(page, lab, "ch03_attention/ch03.ipynb")
    run_all(page)
    return page


def test_the_server_asks_for_its_token(lab):
    address, token = lab
    assert token and status(f"{address}/api/contents") == 403
    assert status(f"{address}/api/contents", token) == 200


def test_pictures_show_before_anything_is_run(opened):
    """Figures, and in the place of each explorer its picture for the starting values."""
    figures = opened.locator(".jp-OutputArea img[src^='data:image/png']")
    explorers = opened.locator(".jp-OutputArea img[src^='data:image/svg'][alt]")
    explorers.first.wait_for()
    assert figures.count() >= 5 and explorers.count() == 2
    assert explorers.evaluate_all("images => images.map(image => image.naturalWidth > 100)") == [True, True]


def test_chapter_2_runs_from_top_to_bottom(chapter_2):
    errors, counts = errors_and_counts(chapter_2)
    assert errors == 0 and counts == list(range(1, len(counts) + 1)) and len(counts) > 50


def test_typing_in_the_tokenizer_explorer_draws_new_tokens(chapter_2):
    chapter_2.evaluate(SHOW, "Look for yourself")
    box = chapter_2.locator(".widget-textarea textarea:not([placeholder^='Write your answer'])").first
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


def quick_quiz(page):
    """The quiz at the end of chapter 2."""
    page.evaluate(SHOW, "Test yourself on the whole chapter")
    return page.locator(".jp-OutputArea-output", has_text="ch02, quick questions").last


def test_answering_a_question_by_mouse(chapter_2):
    quiz = quick_quiz(chapter_2)
    quiz.get_by_text("It translates it into another language.").click()
    quiz.get_by_role("button", name="Check").click()
    quiz.get_by_text("Not right.").wait_for()
    quiz.get_by_text("A tokenizer changes the form of a text, not its language.").wait_for()
    quiz.get_by_text("It cuts it into words and parts of words.").click()
    quiz.get_by_role("button", name="Check").click()
    quiz.get_by_text("Right.", exact=True).wait_for()


def test_answering_a_question_by_keyboard(chapter_2):
    quiz = quick_quiz(chapter_2)
    quiz.get_by_role("button", name="Next").focus()
    chapter_2.keyboard.press("Enter")
    quiz.get_by_text("question 2 of 6").wait_for()
    quiz.locator("input[type=radio]").first.focus()
    chapter_2.keyboard.press("Space")
    for _ in range(10):                                  # over the other answers to the button
        chapter_2.keyboard.press("Tab")
        if chapter_2.evaluate("document.activeElement.textContent.trim()") == "Check":
            break
    chapter_2.keyboard.press("Enter")
    quiz.get_by_text("ight.").last.wait_for()


def test_turning_over_a_card(chapter_2):
    chapter_2.evaluate(SHOW, "Flashcards: ch02")
    cards = chapter_2.locator(".jp-OutputArea-output", has_text="Flashcards: ch02").last
    cards.get_by_role("button", name="Show answer").click()
    cards.get_by_role("button", name="Easy").click()
    cards.get_by_text("4 to do").wait_for()


def test_chapter_3_runs_from_top_to_bottom(chapter_3):
    errors, counts = errors_and_counts(chapter_3)
    assert errors == 0 and counts == list(range(1, len(counts) + 1)) and len(counts) > 40


def test_stepping_through_the_mask(chapter_3):
    chapter_3.evaluate(SHOW, "Step through both with the slider")
    handle = chapter_3.locator(".widget-slider .noUi-handle").first
    chapter_3.get_by_text("step 0: the scores").wait_for()
    handle.focus()
    handle.press("ArrowRight")
    chapter_3.get_by_text("step 1: the future set to −∞").wait_for()
    assert chapter_3.locator("svg text", has_text="−∞").count() >= 15


def test_choosing_head_token_and_text_in_the_attention_explorer(chapter_3):
    chapter_3.evaluate(SHOW, "Look at the heads")
    title = chapter_3.locator("svg text", has_text="attends most to").last
    title.wait_for()
    before = title.text_content()
    handle = chapter_3.locator(".widget-slider .noUi-handle").last  # the token
    handle.focus()
    handle.press("ArrowRight")
    titles = "[...document.querySelectorAll('svg text')].filter(t => t.textContent.includes('attends most to'))"
    chapter_3.wait_for_function(f"old => {titles}.at(-1).textContent !== old", arg=before)
    chapter_3.locator(".widget-text input").last.fill("Two words")
    chapter_3.get_by_text("·words attends most to").wait_for()
