"""The questions of the course: YAML files in ``questions/``, one a chapter, read and checked.

A question is a dictionary with these entries; ``id`` is unique in the whole course, and never changes, because
progress is kept under it:

    id          "7.3-Q4"
    type        choice, blank, match, code, diagram, order or open
    section     "7.3", or "quick" for the questions at the end of a chapter
    text        the question, Markdown
    explanation what is said after an answer, right or wrong

and, depending on the type:

    choice      options: [{text, right: true} or {text, why}], exactly one right, each wrong one with its reason
    blank       answers: [texts that are right], the first is shown; wrong: {a likely wrong answer: why}
    match       pairs: [[term, meaning], ...]
    code        listing: Python with <1>, <2>, ... ; terms: {number: the right term}; others: [terms too many];
                why: {term: what it would do in a wrong place}; runs: a program in which {listing} stands, and which
                passes with the right terms
    diagram     drawing: name of a function in diagrams.py; labels: {number: the right label}; others: [labels too many]
    order       steps: [in the right order]
    open        answer: a model answer; points: [what a good answer holds]

Importing this module imports the standard library and yaml.
"""

import functools
import random
import re
from pathlib import Path

import yaml

from shared import course

FOLDER = Path(__file__).parent / "questions"
TYPES = ("choice", "blank", "match", "code", "diagram", "order", "open")
NEEDED = {
    "choice": {"options"},
    "blank": {"answers", "wrong"},
    "match": {"pairs"},
    "code": {"listing", "terms", "others", "why", "runs"},
    "diagram": {"drawing", "labels", "others"},
    "order": {"steps"},
    "open": {"answer", "points"},
}
COMMON = {"id", "type", "section", "text", "explanation"}


class QuestionFault(ValueError):
    """A question is not in the form described above. The message names it."""


def _is_text(value):
    return isinstance(value, str) and value.strip() == value and value != ""


def fault_of(question):
    """What is wrong with the form of a question, or None."""
    if not isinstance(question, dict) or question.get("type") not in TYPES:
        return f"the type must be one of {', '.join(TYPES)}"
    kind = question["type"]
    entries = COMMON | NEEDED[kind]
    if set(question) != entries:
        return f"it has the entries {sorted(set(question) ^ entries)} too many or too few"
    if not all(_is_text(question[name]) for name in COMMON):
        return "id, type, section, text and explanation must be texts"
    look = {
        "choice": _fault_of_options, "blank": _fault_of_blank, "match": _fault_of_pairs, "code": _fault_of_code,
        "diagram": _fault_of_labels, "order": _fault_of_steps, "open": _fault_of_open,
    }[kind]  # fmt: skip
    try:
        return look(question)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        return f"an entry holds another kind of value than it should ({error})"


def _fault_of_options(question):
    options = question["options"]
    if sum(option.get("right") is True for option in options) != 1 or not 3 <= len(options) <= 6:
        return "there must be three to six options, exactly one of them right"
    for option in options:
        wanted = {"text", "right"} if option.get("right") else {"text", "why"}
        if set(option) != wanted or not all(_is_text(option[name]) for name in wanted - {"right"}):
            return f"the option {option.get('text')!r} needs a text, and if it is wrong a reason"
    if len({option["text"] for option in options}) != len(options):
        return "two options are the same"
    return None


def _fault_of_blank(question):
    if "___" not in question["text"]:
        return "the text has no ___"
    answers, wrong = question["answers"], question["wrong"]
    if not answers or not all(_is_text(each) for each in [*answers, *wrong, *wrong.values()]):
        return "answers and wrong must hold texts"
    if {normal(each) for each in answers} & {normal(each) for each in wrong}:
        return "an answer is both right and wrong"
    return None


def _fault_of_pairs(question):
    pairs = question["pairs"]
    if not 3 <= len(pairs) <= 6 or not all(len(pair) == 2 and all(map(_is_text, pair)) for pair in pairs):
        return "there must be three to six pairs of texts"
    if any(len({pair[side] for pair in pairs}) != len(pairs) for side in (0, 1)):
        return "a term or a meaning occurs twice"
    return None


def _fault_of_bank(right, others):
    if not all(isinstance(number, int) and _is_text(term) for number, term in right.items()):
        return "numbers must be whole numbers, and terms texts"
    if set(right) != set(range(1, len(right) + 1)) or not all(map(_is_text, others)):
        return "the numbers must be 1, 2, 3, ..."
    if set(right.values()) & set(others):
        return "a term that is too many is also a right one"
    return None


def _fault_of_code(question):
    numbers = {int(number) for number in re.findall(r"<(\d)>", question["listing"])}
    if numbers != set(question["terms"]):
        return "the numbers in the listing and those of the terms differ"
    if "{listing}" not in question["runs"]:
        return "runs has no {listing}"
    if set(question["why"]) != {*question["terms"].values(), *question["others"]}:
        return "why must hold each term"
    return _fault_of_bank(question["terms"], question["others"])


def _fault_of_labels(question):
    return _fault_of_bank(question["labels"], question["others"])


def _fault_of_steps(question):
    steps = question["steps"]
    if not 3 <= len(steps) <= 8 or len(set(steps)) != len(steps) or not all(map(_is_text, steps)):
        return "there must be three to eight different steps"
    return None


def _fault_of_open(question):
    if not _is_text(question["answer"]) or not question["points"] or not all(map(_is_text, question["points"])):
        return "there must be a model answer and points"
    return None


def normal(text):
    """An answer without what does not matter: case, spaces around and between, quotation marks, a dot at the end."""
    return re.sub(r"\s+", " ", text.strip().strip(".\"'`").lower())


@functools.cache
def chapter_questions(chapter):
    """The questions of a chapter ("ch05", "appendix_d"), a tuple of dictionaries, in the order of its file.

    Raises:
        ValueError: if there is no such file; names those that there are.
        QuestionFault: if a question is not in form.
    """
    path = FOLDER / f"{chapter}.yaml"
    if not path.is_file():
        raise ValueError(f"there are no questions for {chapter!r}; there are some for {', '.join(chapters())}")
    try:
        questions = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise QuestionFault(f"{path.name} is no YAML any more: {error}") from error
    if not isinstance(questions, list):
        raise QuestionFault(f"{path.name} holds no list of questions")
    for number, question in enumerate(questions):
        fault = fault_of(question)
        if fault:
            name = question.get("id") if isinstance(question, dict) else number
            raise QuestionFault(f"{path.name}, question {name}: {fault}")
    return tuple(questions)


def chapters():
    """Names of the chapters that have questions, in reading order."""
    names = [path.stem for path in FOLDER.glob("*.yaml")]
    return sorted(names, key=lambda name: (name.startswith("appendix"), name))


def select(place, part=None):
    """Questions of a section ("5.2"), of a whole chapter ("ch05"), or of a part of one ("ch05", "quick").

    Raises ValueError if there are none; names the sections that have some.
    """
    chapter = course.short_name(place.split(".")[0]) if "." in place else place
    questions = chapter_questions(chapter)
    section = part or (None if place == chapter else place)
    chosen = [question for question in questions if section in (None, question["section"])]
    if not chosen:
        sections = dict.fromkeys(question["section"] for question in questions)
        raise ValueError(f"there are no questions for {section!r}; there are some for {', '.join(sections)}")
    return chosen


def shuffled(items, name):
    """Items in an order that looks random and is always the same for a question; never their own, if there are two."""
    items, seed = list(items), 0
    while True:
        mixed = list(items)
        random.Random(f"{name} {seed}").shuffle(mixed)
        if mixed != items or len(items) < 2:
            return mixed
        seed += 1


def bank(question):
    """The terms to choose from, of a question with blanks in code or labels, shuffled."""
    right = question["terms" if question["type"] == "code" else "labels"]
    return shuffled(dict.fromkeys([*right.values(), *question["others"]]), question["id"])


def marked(question, given):
    """How many parts of an answer are right, and what is to be said about those that are not.

    Args:
        given: choice: the text of an option; blank: a text; match: {term: meaning}; code, diagram: {number: term};
            order: the steps; open: the points that were met.

    Returns:
        (right, of, [remarks]).
    """
    kind = question["type"]
    if kind == "choice":
        option = next(option for option in question["options"] if option["text"] == given)
        return int("right" in option), 1, [option["why"]] if "why" in option else []
    if kind == "blank":
        if normal(given) in map(normal, question["answers"]):
            return 1, 1, []
        why = {normal(answer): reason for answer, reason in question["wrong"].items()}.get(normal(given))
        return 0, 1, [why or f"{given.strip()!r} is not what is meant."]
    if kind == "match":
        wrong = [term for term, meaning in question["pairs"] if given.get(term) != meaning]
        meanings = {meaning: term for term, meaning in question["pairs"]}
        remarks = [f"{term}: what you chose describes {meanings[given[term]]}." if given.get(term) in meanings
                   else f"{term}: nothing is chosen yet." for term in wrong]  # fmt: skip
        return len(question["pairs"]) - len(wrong), len(question["pairs"]), remarks
    if kind in ("code", "diagram"):
        right = question["terms" if kind == "code" else "labels"]
        wrong = [number for number, term in right.items() if given.get(number) != term]
        remarks = []
        for number in wrong:
            term = given.get(number)
            reason = question["why"].get(term) if kind == "code" else f"{term} does not stand there."
            remarks.append(f"{number}: {reason if term else 'nothing is chosen yet.'}")
        return len(right) - len(wrong), len(right), remarks
    if kind == "order":
        steps, n = question["steps"], len(question["steps"])
        right = sum(a == b for a, b in zip(given, steps))
        late = next((step for step, wanted in zip(given, steps) if step != wanted), None)
        return right, n, [f"The first step that is out of place: {late}"] if late else []
    return len(given), len(question["points"]), []


def as_markdown(question, number):
    """A question as Markdown, with its answer in a fold: what shows where there are no widgets."""
    lines, kind = [f"**{number}.** {question['text']}"], question["type"]
    if kind == "choice":
        mixed = shuffled([option["text"] for option in question["options"]], question["id"])
        lines += ["", *(f"- {letter}) {text}" for letter, text in zip("ABCDEF", mixed))]
        right = next(option["text"] for option in question["options"] if "right" in option)
        answer = f"{'ABCDEF'[mixed.index(right)]}) {right}"
    elif kind == "match":
        meanings = shuffled([meaning for _, meaning in question["pairs"]], question["id"])
        lines += ["", "Terms: " + "; ".join(term for term, _ in question["pairs"])]
        lines += ["", *(f"- {letter}) {text}" for letter, text in zip("ABCDEF", meanings))]
        answer = "; ".join(f"{term}: {'ABCDEF'[meanings.index(meaning)]}" for term, meaning in question["pairs"])
    elif kind in ("code", "diagram"):
        if kind == "code":
            lines += ["", "```python", question["listing"].rstrip("\n"), "```"]
        else:
            from shared.study.diagrams import DRAWINGS

            lines += ["", f"The drawing: {DRAWINGS[question['drawing']][1]}"]
        lines += ["", "To choose from: " + "; ".join(f"`{term}`" for term in bank(question))]
        right = question["terms" if kind == "code" else "labels"]
        answer = "; ".join(f"{place}: `{term}`" for place, term in right.items())
    elif kind == "order":
        mixed = shuffled(question["steps"], question["id"])
        lines += ["", *(f"- {letter}) {step}" for letter, step in zip("ABCDEFGH", mixed))]
        answer = ", ".join("ABCDEFGH"[mixed.index(step)] for step in question["steps"])
    else:
        answer = question["answers"][0] if kind == "blank" else question["answer"]
    fold = f"<details><summary>Answer</summary>\n\n{answer}\n\n{question['explanation']}\n\n</details>"
    return "\n".join([*lines, "", fold])
