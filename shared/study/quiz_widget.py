"""``quiz("5.2")``: the questions of a section as a widget, one at a time; as Markdown where there is no front end.

One question is shown at a time, so that a quiz is a dozen widgets and not hundreds, and shows at once. All parts are
ipywidgets' own (radio buttons, dropdowns, buttons, text fields): they can be reached and used by keyboard, follow the
theme, and are the same in ipywidgets 7 (Colab) and 8.
"""

import re
from html import escape

import ipywidgets

from shared.course import count_of
from shared.study import diagrams, progress, questions
from shared.widgets.explorer import view_bundle
from shared.widgets.keys import box_with_keys

NOTHING = "choose"  # what a dropdown shows before a choice


def as_html(text):
    """Markdown of a question as HTML: paragraphs, `code` and *emphasis*, nothing else; all else is escaped."""
    html = escape(text, quote=False)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*\n]+)\*\*", r"<b>\1</b>", html)
    html = re.sub(r"(?<![\w*])\*(?! )([^*\n]+)(?<! )\*(?![\w*])", r"<i>\1</i>", html)
    return "<br><br>".join(part.replace("\n", " ") for part in html.split("\n\n"))


def note(text, mark, colour):
    """A remark with a bar at its left; readable in both themes, since it takes the theme's own text colour."""
    return (f'<div style="border-left: 4px solid {colour}; padding: 2px 10px; margin: 6px 0; max-width: 740px; '
            f'line-height: 1.5"><b>{mark}</b> {text}</div>')  # fmt: skip


RIGHT, PARTLY, WRONG = ("Right.", "#3f8f5f"), ("Partly right.", "#d9822b"), ("Not right.", "#b8506f")


class Asked:
    """One question: its controls, and what has been given so far. The base of the classes for each type."""

    def __init__(self, question):
        self.question = question
        self.controls = self.build()

    def build(self):
        """The controls, a list of widgets."""
        raise NotImplementedError

    def given(self):
        """The present answer, in the form that ``questions.marked`` takes; None if nothing is chosen yet."""
        raise NotImplementedError

    def right_answer(self):
        """The right answer as Markdown."""
        raise NotImplementedError


class Choice(Asked):
    """One of several answers."""

    def build(self):
        options = questions.shuffled([option["text"] for option in self.question["options"]], self.question["id"])
        labels = [f"{letter}) {plain(text)}" for letter, text in zip("ABCDEF", options)]
        self.radio = ipywidgets.RadioButtons(
            options=list(zip(labels, options)), value=None, layout=ipywidgets.Layout(width="auto", max_width="760px"))
        return [self.radio]

    def given(self):
        return self.radio.value

    def right_answer(self):
        return next(option["text"] for option in self.question["options"] if "right" in option)


class Blank(Asked):
    """A word to write."""

    def build(self):
        self.field = ipywidgets.Text(placeholder="your answer", layout=ipywidgets.Layout(width="360px"))
        return [self.field]

    def given(self):
        return self.field.value if self.field.value.strip() else None

    def right_answer(self):
        return self.question["answers"][0]


def plain(text):
    """Markdown without its marks: what stands in a control, which knows no HTML."""
    return text.replace("`", "").replace("**", "")


class Dropdowns(Asked):
    """Several places, each with a term to choose; for matching, code and diagrams."""

    def places(self):
        """[(key, label), ...] of the places."""
        raise NotImplementedError

    def choices(self):
        """The terms to choose from."""
        raise NotImplementedError

    def above(self):
        """Widgets above the places."""
        return []

    def build(self):
        # The empty text, because a dropdown whose value is None shows none of its options, not even this one.
        choices = [(NOTHING, ""), *((plain(choice), choice) for choice in self.choices())]
        self.chosen = {}
        rows = []
        for key, label in self.places():
            box = ipywidgets.Dropdown(options=choices, value="", description=label,
                                      style={"description_width": "190px"},
                                      layout=ipywidgets.Layout(width="auto", max_width="740px"))  # fmt: skip
            self.chosen[key] = box
            rows.append(box)
        return [*self.above(), *rows]

    def given(self):
        found = {key: box.value for key, box in self.chosen.items() if box.value}
        return found or None


class Match(Dropdowns):
    """Terms and their meanings."""

    def places(self):
        return [(term, plain(term)) for term, _ in self.question["pairs"]]

    def choices(self):
        return questions.shuffled([meaning for _, meaning in self.question["pairs"]], self.question["id"])

    def right_answer(self):
        return "; ".join(f"*{term}*: {meaning}" for term, meaning in self.question["pairs"])


class Code(Dropdowns):
    """Blanks in a listing, filled from a bank of terms."""

    def places(self):
        return [(number, f"<{number}>") for number in self.question["terms"]]

    def choices(self):
        return questions.bank(self.question)

    def above(self):
        listing = escape(self.question["listing"].rstrip("\n"))
        return [ipywidgets.HTML(f'<pre style="line-height: 1.35; overflow-x: auto">{listing}</pre>')]

    def right_answer(self):
        return "; ".join(f"{number}: `{term}`" for number, term in self.question["terms"].items())


class Diagram(Dropdowns):
    """Labels of a drawing."""

    def places(self):
        return [(number, str(number)) for number in self.question["labels"]]

    def choices(self):
        return questions.bank(self.question)

    def above(self):
        return [ipywidgets.HTML(diagrams.as_image(self.question["drawing"]))]

    def right_answer(self):
        return "; ".join(f"{number}: {label}" for number, label in self.question["labels"].items())


class Order(Asked):
    """Steps to put in order, moved by two buttons."""

    def build(self):
        steps = questions.shuffled(self.question["steps"], self.question["id"])
        self.list = ipywidgets.Select(options=[(plain(step), step) for step in steps], value=steps[0], rows=len(steps),
                                      layout=ipywidgets.Layout(width="auto", max_width="740px"))  # fmt: skip
        self.up = ipywidgets.Button(description="move up", icon="arrow-up")
        self.down = ipywidgets.Button(description="move down", icon="arrow-down")
        self.up.on_click(lambda button: self.move(-1))
        self.down.on_click(lambda button: self.move(1))
        return [self.list, ipywidgets.HBox([self.up, self.down])]

    def move(self, by):
        """Move the chosen step by one place; at the end of the list nothing happens."""
        options, chosen = list(self.list.options), self.list.value
        place = [step for _, step in options].index(chosen)
        if 0 <= place + by < len(options):
            options.insert(place + by, options.pop(place))
            self.list.options = options
            self.list.value = chosen

    def given(self):
        return [step for _, step in self.list.options]

    def right_answer(self):
        return "; ".join(f"{number}. {step}" for number, step in enumerate(self.question["steps"], start=1))


class Open(Asked):
    """A question to answer in own words; the learner compares and counts the points."""

    def build(self):
        self.field = ipywidgets.Textarea(placeholder="Write your answer first, then compare.", rows=4,
                                         layout=ipywidgets.Layout(width="auto", max_width="740px"))  # fmt: skip
        self.reveal = ipywidgets.Button(description="Compare")
        self.reveal.on_click(self.compare)
        self.model = ipywidgets.HTML()
        self.points = ipywidgets.VBox([])
        return [self.field, self.reveal, self.model, self.points]

    def compare(self, button=None):
        """Show the model answer and its points to be ticked. ``button`` is what ipywidgets passes; it is not used."""
        if not self.field.value.strip():
            advice = "A sentence will do. To look first and nod is not to know."
            self.model.value = note(advice, "Write first.", "#6b6f76")
            return
        if self.points.children:
            return
        self.model.value = note(as_html(self.question["answer"]), "A good answer:", "#3b6fb6")
        self.points.children = [
            ipywidgets.Checkbox(description=plain(point), indent=False, layout=ipywidgets.Layout(width="auto"))
            for point in self.question["points"]
        ]

    def given(self):
        if not self.points.children:
            return None
        return [point for point, box in zip(self.question["points"], self.points.children) if box.value]

    def right_answer(self):
        return ""


KINDS = {
    "choice": Choice, "blank": Blank, "match": Match, "code": Code, "diagram": Diagram, "order": Order, "open": Open,
}  # fmt: skip


class Quiz:
    """Questions, one at a time; see ``quiz``."""

    def __init__(self, chosen, title):
        self.chosen, self.title, self.place, self.asked = chosen, title, 0, {}
        self.head, self.text, self.feedback = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.controls = ipywidgets.VBox([])
        self.check = ipywidgets.Button(description="Check", button_style="primary")
        self.back = ipywidgets.Button(description="Previous", icon="arrow-left")
        self.forth = ipywidgets.Button(description="Next", icon="arrow-right")
        self.check.on_click(self.mark)
        self.back.on_click(lambda button: self.go(-1))
        self.forth.on_click(lambda button: self.go(1))
        buttons = ipywidgets.HBox([self.check, self.back, self.forth])
        self.view = box_with_keys([self.head, self.text, self.controls, buttons, self.feedback])
        self.known = progress.load()["answers"]
        self.show()

    @property
    def question(self):
        """The question that is shown."""
        return self.chosen[self.place]

    def go(self, by):
        """Show the question ``by`` places on, if there is one."""
        if 0 <= self.place + by < len(self.chosen):
            self.place += by
            self.show()

    def show(self):
        """Put the present question on the screen, with what was answered before."""
        name = self.question["id"]
        if name not in self.asked:
            self.asked[name] = KINDS[self.question["type"]](self.question)
        self.text.value = f'<div style="max-width: 740px; line-height: 1.5">{as_html(self.question["text"])}</div>'
        self.controls.children = self.asked[name].controls
        before = self.known.get(name)
        self.feedback.value = "" if before is None else note(
            f"{before['right']} of {before['of']} right, after {count_of(before['tries'], 'try', 'tries')}.",
            "You answered this before:", "#6b6f76")  # fmt: skip
        self.back.disabled, self.forth.disabled = self.place == 0, self.place == len(self.chosen) - 1
        self.count()

    def count(self):
        """Write the head: the title, which question this is, and how many are right."""
        solved = sum(self.known.get(question["id"], {}).get("best", 0) == 1 for question in self.chosen)
        self.head.value = (f"<b>{escape(self.title)}</b> &middot; question {self.place + 1} of {len(self.chosen)} "
                           f"&middot; {solved} solved")  # fmt: skip

    def mark(self, button=None):
        """Judge the answer, say why, and keep it. ``button`` is what ipywidgets passes; it is not used."""
        name, asked = self.question["id"], self.asked[self.question["id"]]
        given = asked.given()
        if given is None:
            self.feedback.value = note("Press Compare first, then tick what your answer holds."
                                       if self.question["type"] == "open" else "There is nothing to check.",
                                       "Answer first.", "#6b6f76")  # fmt: skip
            return
        right, of, remarks = questions.marked(self.question, given)
        mark, colour = RIGHT if right == of else PARTLY if right else WRONG
        text = f"{right} of {of}. " if of > 1 else ""
        text += " ".join(as_html(remark) for remark in remarks)
        if right < of and asked.right_answer() and self.asked_twice(name):
            text += f" <br>The answer: {as_html(asked.right_answer().rstrip('.'))}."
        if right == of or self.question["type"] == "open" or self.asked_twice(name):
            text += f"<br>{as_html(self.question['explanation'])}"
        self.feedback.value = note(text, mark, colour)
        self.known[name] = progress.record_answer(name, right, of)
        self.count()

    def asked_twice(self, name):
        """Whether a question was tried before: then a wrong answer is told the right one."""
        return self.known.get(name, {}).get("tries", 0) >= 1

    def as_markdown(self):
        """All questions, with their answers in folds."""
        parts = [questions.as_markdown(question, number) for number, question in enumerate(self.chosen, start=1)]
        return "\n\n".join([f"**{self.title}**", *parts])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return view_bundle(self.view, {
            "text/markdown": self.as_markdown(),
            "text/plain": f"{self.title}: {count_of(len(self.chosen), 'question')}",
        })  # fmt: skip


# Two chapters of questions that have no chapter of their own: both stand in chapter 2.
TITLES = {"ch01": "what a language model is", "appendix_a": "the PyTorch you need"}


def quiz(place, part=None):
    """The questions of a section, as a widget.

    Args:
        place: a section ("5.2"), or a chapter ("ch05").
        part: of a chapter, only this part: "quick" for the questions at its end.

    Raises:
        ValueError: if there are no questions there; names those that there are.
    """
    chosen = questions.select(place, part)
    place = TITLES.get(place, place)
    title = f"Test yourself: {place}" if part is None else f"Test yourself: {place}, {part} questions"
    return Quiz(chosen, title)


def mixed(chapters, n, seed=None):
    """``n`` questions drawn from some chapters, those that are not solved yet first.

    Args:
        chapters: names such as ("ch02", "ch03").
        n: how many; fewer if there are not as many.
        seed: for the same draw again; None for another one each time.
    """
    import random

    known, draw = progress.load()["answers"], random.Random(seed)
    pool = [question for chapter in chapters for question in questions.chapter_questions(chapter)]
    draw.shuffle(pool)
    pool.sort(key=lambda question: known.get(question["id"], {}).get("best", 0) == 1)
    return pool[:n]


class TestYourself:
    """Choose chapters, get a mixed quiz, and see the score by section; see ``test_yourself``."""

    def __init__(self):
        names = questions.chapters()
        self.chapters = ipywidgets.SelectMultiple(
            options=names, value=names[:1], rows=len(names), description="chapters")  # fmt: skip
        self.number = ipywidgets.IntSlider(10, min=5, max=50, step=5, description="questions")
        self.begin = ipywidgets.Button(description="Begin", button_style="primary")
        self.begin.on_click(self.start)
        self.place, self.score = ipywidgets.VBox([]), ipywidgets.HTML()
        self.quiz = None
        self.view = box_with_keys([self.chapters, self.number, self.begin, self.place, self.score])
        self.count()

    def start(self, button=None):
        """Draw questions and show them. ``button`` is what ipywidgets passes; it is not used."""
        chosen = mixed(self.chapters.value, self.number.value)
        if chosen:
            self.quiz = Quiz(chosen, f"Mixed, from {', '.join(self.chapters.value)}")
            self.quiz.check.on_click(self.count)
            self.place.children = [self.quiz.view]
        self.count()

    def count(self, button=None):
        """Show how many questions of each section are solved. ``button`` is what ipywidgets passes; it is not used."""
        from shared.study.report import rows

        found = "".join(f"<tr><td>{chapter}</td><td>{section}</td><td>{solved} of {of}</td></tr>"
                        for chapter, section, solved, of in rows())  # fmt: skip
        head = "<tr><th>chapter</th><th>section</th><th>solved</th></tr>"
        self.score.value = f"<table>{head}{found}</table>" if found else ""

    def _repr_mimebundle_(self, include=None, exclude=None):
        names = ", ".join(questions.chapters())
        return view_bundle(self.view, {
            "text/plain": f"Mixed questions, from {names}",
        })  # fmt: skip


def test_yourself():
    """A choice of chapters and a mixed quiz from them, as a widget."""
    return TestYourself()


test_yourself.__test__ = False  # its name is for learners; pytest would take it for a test
TestYourself.__test__ = False
