"""Chapter notebooks in JupyterLab, in a real browser: start it as a reader does, run all, move what can be moved.

Needs Chromium; without it these tests are skipped by name.
"""

import re

import pytest
from playwright.sync_api import expect

from shared.study import questions
from shared.study.quiz_widget import plain
from shared.tests.lab import (
    BROWSER,
    SHOW,
    add_cell,
    browser_page,
    errors_and_counts,
    jupyter_lab,
    open_notebook,
    run_all,
    status,
)

JUDGED = re.compile(r"^(Not right|Partly right|Right)\.$")
WRONG = re.compile(r"^(Not|Partly) right\.$")

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
    quiz.get_by_text(JUDGED).last.wait_for()


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


# Quizzes: each type, answered wrongly and rightly, by mouse and by keyboard alone -------------------------

# One question of each type: choice, blank, match, code, diagram, order; the open one is the first of chapter 2.
ASKED = ["2-QQ1", "2-QQ5", "1.6-Q7", "2.6-Q6", "2.5-Q1", "1.7-Q6"]


def asked_questions():
    """One question of each type."""
    known = {q["id"]: q for chapter in ("ch01", "ch02") for q in questions.chapter_questions(chapter)}
    asked = [known[name] for name in ASKED] + [next(q for q in known.values() if q["type"] == "open")]
    assert {question["type"] for question in asked} == set(questions.TYPES)
    return asked


def texts_of(options):
    """The texts of options; ipywidgets writes them with hard spaces."""
    return [text.replace("\xa0", " ") for text in options.all_text_contents()]


class Hands:
    """Answers the questions of a quiz in the page. The base of the two ways of doing it."""

    def __init__(self, page):
        self.page, self.quiz = page, page.locator(".jp-OutputArea-output", has_text="All types").last

    def answer(self, question, right):
        """Give a right or a wrong answer to the question that is shown."""
        getattr(self, f"answer_{question['type']}")(question, right)
        self.press("Check")
        self.quiz.get_by_text("Right." if right else WRONG, exact=right).last.wait_for()

    def places(self, question):
        """[(dropdown, its right term), ...] of a matching, code or diagram question."""
        terms = {"match": lambda: [meaning for _, meaning in question["pairs"]],
                 "code": lambda: list(question["terms"].values()),
                 "diagram": lambda: list(question["labels"].values())}[question["type"]]()  # fmt: skip
        boxes = self.quiz.locator("select")
        expect(boxes).to_have_count(len(terms))
        terms = [plain(str(term)) for term in terms]
        boxes.first.locator("option", has_text=terms[0]).first.wait_for(state="attached")  # not the question before
        return [(boxes.nth(place), term) for place, term in enumerate(terms)]

    def answer_match(self, question, right):
        pairs = self.places(question)
        wrong = pairs[-1:] + pairs[:-1] if len(pairs) > 1 else pairs
        for (box, term), (_, other) in zip(pairs, wrong):
            options = [option for option in texts_of(box.locator("option")) if option != term]
            self.choose(box, term if right else other if other != term else options[-1])

    answer_code = answer_diagram = answer_match

    def answer_choice(self, question, right):
        text = next(option["text"] for option in question["options"] if ("right" in option) == right)
        self.tick(self.quiz.locator("label", has_text=plain(text)))

    def answer_blank(self, question, right):
        self.write(self.quiz.locator("input[type=text]"), str(question["answers"][0]) if right else "something else")

    def answer_order(self, question, right):
        """Bring the steps into their order, or the first two of them into the wrong one."""
        wanted = [plain(step) for step in question["steps"]]
        steps = self.quiz.locator("select option")
        expect(steps).to_have_count(len(wanted))
        now = texts_of(steps)
        for place, step in enumerate(wanted if right else wanted[::-1]):
            for at in range(now.index(step), place, -1):
                self.lift(at)
                now.insert(at - 1, now.pop(at))
                expect(steps).to_have_text(now)

    def answer_open(self, question, right):
        if not self.quiz.locator("input[type=checkbox]").count():
            self.write(self.quiz.locator("textarea"), "An answer in my own words, which is long enough.")
            self.press("Compare")
            self.quiz.get_by_text("A good answer:").wait_for()
        boxes = self.quiz.locator("input[type=checkbox]")
        for place in range(boxes.count()):
            if boxes.nth(place).is_checked() != (right or place == 0):
                self.tick(boxes.nth(place))


class Mouse(Hands):
    def press(self, name):
        self.quiz.get_by_role("button", name=name).click()

    def tick(self, box):
        box.first.click()

    def write(self, field, text):
        field.fill(text)

    def choose(self, box, term):
        box.select_option(label=term)

    def lift(self, place):
        self.quiz.locator("select option").nth(place).click()
        self.quiz.get_by_role("button", name="move up").click()


class Keyboard(Hands):
    """Only keys, once the first control of the quiz has the focus."""

    def go_to(self, here):
        """Press Tab until an element has the focus; from the first control on, as a reader would."""
        self.quiz.locator("input, textarea, select, button").first.focus()
        for _ in range(40):
            if here.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError("40 times Tab did not lead there")

    def steer(self, where, wanted):
        """Arrows up and down until ``where()`` is the number wanted, and stays.

        At most ten keys a second: a value that the kernel sends back late may set a control to where it was.
        """
        for _ in range(100):
            at = where()
            if at != wanted:
                self.page.keyboard.press("ArrowDown" if at < wanted else "ArrowUp")
            self.page.wait_for_timeout(100 if at != wanted else 500)
            if at == wanted == where():
                return
        raise AssertionError(f"the arrows did not lead from {where()} to {wanted}")

    def press(self, name):
        self.go_to(self.quiz.get_by_role("button", name=name))
        self.page.keyboard.press("Enter")

    def tick(self, box):
        if box.first.evaluate("element => element.tagName") == "LABEL":
            box = box.locator("input")
        group = self.quiz.locator("input[type=radio]")
        if group.count():
            # Tab leads to the group; the arrows move and choose within it.
            at = [group.nth(n).evaluate("(e, other) => e === other", box.first.element_handle())
                  for n in range(group.count())].index(True)  # fmt: skip
            self.go_to(group.nth(0) if not self.quiz.locator("input[type=radio]:checked").count()
                       else self.quiz.locator("input[type=radio]:checked"))  # fmt: skip
            self.page.keyboard.press("Space")
            checked = "group => group.findIndex(button => button.checked)"
            return self.steer(lambda: group.evaluate_all(checked), at)
        self.go_to(box.first)
        self.page.keyboard.press("Space")

    def write(self, field, text):
        self.go_to(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text, delay=20)
        self.page.wait_for_timeout(500)

    def choose(self, box, term):
        self.go_to(box)
        wanted = texts_of(box.locator("option")).index(term)
        self.steer(lambda: box.evaluate("box => box.selectedIndex"), wanted)

    def lift(self, place):
        steps = self.quiz.locator("select")
        self.go_to(steps)
        self.steer(lambda: steps.evaluate("list => list.selectedIndex"), place)
        self.press("move up")


SHOW_ALL_TYPES = """
from shared.study import questions
from shared.study.quiz_widget import Quiz
known = {q["id"]: q for chapter in ("ch01", "ch02") for q in questions.chapter_questions(chapter)}
Quiz([known[name] for name in %r], "All types")
"""


@pytest.fixture(scope="module")
def empty_notebook(lab, page):
    """A notebook with a kernel that knows the course; cells that are added are not saved."""
    open_notebook(page, lab, "shared/test_yourself.ipynb")
    setup = 'import sys; sys.path.insert(0, "..")'
    add_cell(page, setup)
    return page


@pytest.mark.parametrize("hands", [Mouse, Keyboard])
def test_each_type_is_answered_wrongly_and_rightly(empty_notebook, hands):
    asked = asked_questions()
    add_cell(empty_notebook, SHOW_ALL_TYPES % [question["id"] for question in asked])
    hand = hands(empty_notebook)
    hand.quiz.get_by_text("question 1 of 7").wait_for()
    for number, question in enumerate(asked, start=1):
        hand.quiz.get_by_text(f"question {number} of 7").wait_for()
        for right in (False, True):
            hand.answer(question, right)
        if number < 7:
            hand.press("Next")
    hand.quiz.get_by_text("7 solved").wait_for()


def test_arrows_and_letters_belong_to_a_dropdown_of_an_explorer(empty_notebook):
    """JupyterLab's own shortcuts would keep the arrows from it, and "dd" would delete the cell."""
    add_cell(empty_notebook, """
import ipywidgets
from shared.widgets.explorer import Explorer
way = ipywidgets.Dropdown(options=["no way", "ddp", "fsdp"])
Explorer({"way": way}, lambda way: f"<p>drawn for {way}</p>", lambda way: way)
""")
    picture = empty_notebook.locator(".jp-OutputArea-output", has_text="drawn for").last
    box = picture.locator("select[data-lm-suppress-shortcuts]")
    box.focus()
    for key, way in (("ArrowDown", "ddp"), ("ArrowDown", "fsdp"), ("d", "ddp")):
        empty_notebook.keyboard.press(key)
        picture.get_by_text(f"drawn for {way}", exact=True).wait_for()
    empty_notebook.keyboard.press("d")
    empty_notebook.wait_for_timeout(500)
    expect(box).to_have_count(1)


def test_a_notebook_that_is_opened_again_knows_the_answers(empty_notebook, lab):
    asked = asked_questions()
    open_notebook(empty_notebook, lab, "shared/test_yourself.ipynb")
    add_cell(empty_notebook, 'import sys; sys.path.insert(0, "..")')
    add_cell(empty_notebook, SHOW_ALL_TYPES % [question["id"] for question in asked])
    quiz = empty_notebook.locator(".jp-OutputArea-output", has_text="All types").last
    quiz.get_by_text("7 solved").wait_for()
    quiz.get_by_text("You answered this before:").wait_for()
