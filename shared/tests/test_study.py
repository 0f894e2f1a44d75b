"""Questions, quizzes, cards and progress: their form, what answers give, and what is kept."""

import hashlib
import json
import multiprocessing
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from shared.course import ROOT, short_name
from shared.study import anki, cards, diagrams, progress, questions
from shared.study import quiz as make_quiz
from shared.study import quiz_widget as quiz
from shared.study.quiz_widget import KINDS, NOTHING

CHAPTERS = questions.chapters()
ALL = [question for chapter in CHAPTERS for question in questions.chapter_questions(chapter)]
IDS = [question["id"] for question in ALL]

# Questions of the inventories, by chapter: choice, blank, match, code, diagram, order, open.
INVENTORY = {
    "ch01": (5, 0, 6, 0, 3, 1, 33),
    "ch02": (5, 1, 5, 3, 2, 0, 36),
    "ch03": (4, 3, 4, 3, 2, 0, 26),
    "ch04": (6, 1, 2, 3, 2, 1, 34),
    "ch05": (6, 0, 3, 3, 1, 0, 23),
    "ch06": (7, 0, 1, 3, 1, 2, 43),
    "ch07": (6, 0, 3, 2, 0, 0, 39),
    "appendix_a": (0, 0, 0, 0, 0, 0, 24),
    "appendix_d": (0, 0, 0, 0, 0, 0, 10),
    "appendix_e": (0, 0, 0, 0, 0, 0, 10),
}


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """Each test has a file of its own; the learner's is never touched."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setattr(progress, "_told", set())
    return tmp_path / "progress" / "progress.json"


def of_type(kind):
    return [question for question in ALL if question["type"] == kind]


# The questions -------------------------------------------------------------------------------------------


def test_all_questions_of_the_inventories_are_there():
    found = {
        chapter: Counter(question["type"] for question in questions.chapter_questions(chapter)) for chapter in CHAPTERS
    }
    assert {chapter: tuple(counts[kind] for kind in questions.TYPES) for chapter, counts in found.items()} == INVENTORY
    assert len(IDS) == len(set(IDS)) == 378


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sections_belong_to_their_chapter(chapter):
    for question in questions.chapter_questions(chapter):
        if question["section"] != "quick":
            assert short_name(question["section"].split(".")[0]) == chapter


def test_every_option_has_its_reason_and_the_length_gives_nothing_away():
    longest = 0
    for question in of_type("choice"):
        right = next(option for option in question["options"] if "right" in option)
        assert all(len(option["why"].split()) >= 4 for option in question["options"] if option is not right)
        longest += len(right["text"]) > max(len(o["text"]) for o in question["options"] if o is not right)
    assert 0.1 < longest / len(of_type("choice")) < 0.5  # of four options, each is the longest in one of four cases


def test_the_right_answer_stands_at_every_letter():
    places = Counter()
    for question in of_type("choice"):
        texts = [option["text"] for option in question["options"]]
        right = next(option["text"] for option in question["options"] if "right" in option)
        mixed = questions.shuffled(texts, question["id"])
        assert sorted(mixed) == sorted(texts) and mixed == questions.shuffled(texts, question["id"])
        places["ABCD"[mixed.index(right)]] += 1
    assert all(places[letter] >= 4 for letter in "ABCD")


def filled(question, terms):
    return re.sub(r"<(\d)>", lambda number: terms[int(number[1])], question["listing"])


def program(question, listing):
    """The program of a question, with its listing at the depth at which its mark stands."""
    lines = []
    for line in question["runs"].splitlines():
        if line.strip() == "{listing}":
            depth = line[: len(line) - len(line.lstrip())]
            lines += [depth + each for each in listing.splitlines()]
        else:
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("question", of_type("code"), ids=lambda question: question["id"])
def test_code_runs_with_the_right_terms_only(question):
    exec(compile(program(question, filled(question, question["terms"])), question["id"], "exec"), {"__name__": "quiz"})
    for number in question["terms"]:
        for term in {*question["terms"].values(), *question["others"]} - {question["terms"][number]}:
            wrong = {**question["terms"], number: term}
            with pytest.raises((Exception, SystemExit)):
                exec(compile(program(question, filled(question, wrong)), question["id"], "exec"), {"__name__": "quiz"})


@pytest.mark.parametrize("question", of_type("diagram"), ids=lambda question: question["id"])
def test_drawings_are_there_with_a_description(question):
    html = diagrams.as_image(question["drawing"])
    assert html.startswith('<img src="data:image/png;base64,') and len(re.search(r'alt="([^"]+)"', html)[1]) > 40
    assert diagrams.as_png(question["drawing"])[:4] == b"\x89PNG"


def test_no_drawing_is_left_over():
    assert {question["drawing"] for question in of_type("diagram")} == set(diagrams.DRAWINGS)
    with pytest.raises(ValueError, match="there is no drawing 'x'; there are causal_table"):
        diagrams.as_png("x")


GOOD = {
    "id": "1", "type": "choice", "section": "1.1", "text": "t", "explanation": "e",
    "options": [{"text": "a", "right": True}, {"text": "b", "why": "w"}, {"text": "c", "why": "w"}],
}  # fmt: skip
COMMON = {key: GOOD[key] for key in ("id", "section", "text", "explanation")}


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ([], "the type must be one of"),
        ({**GOOD, "type": "x"}, "the type must be one of"),
        ({**GOOD, "more": 1}, "too many or too few"),
        ({key: GOOD[key] for key in GOOD if key != "explanation"}, "too many or too few"),
        ({**GOOD, "text": " t"}, "must be texts"),
        ({**GOOD, "section": 1.1}, "must be texts"),
        ({**GOOD, "options": GOOD["options"][1:]}, "exactly one of them right"),
        ({**GOOD, "options": [*GOOD["options"], {"text": "d", "right": True}]}, "exactly one of them right"),
        ({**GOOD, "options": [*GOOD["options"], {"text": "d"}]}, "if it is wrong a reason"),
        ({**GOOD, "options": [*GOOD["options"], {"text": "b", "why": "v"}]}, "two options are the same"),
        ({**COMMON, "type": "blank", "answers": ["a"], "wrong": {}}, "has no ___"),
        ({**COMMON, "type": "blank", "text": "___", "answers": ["a"], "wrong": {"A.": "w"}}, "both right and wrong"),
        ({**COMMON, "type": "match", "pairs": [["a", "b"], ["c", "d"]]}, "three to six pairs"),
        ({**COMMON, "type": "match", "pairs": [["a", "b"], ["c", "d"], ["a", "e"]]}, "occurs twice"),
        ({**COMMON, "type": "order", "steps": ["a", "b", "a"]}, "different steps"),
        ({**COMMON, "type": "open", "answer": "a", "points": []}, "a model answer and points"),
        ({**COMMON, "type": "diagram", "drawing": "d", "labels": {2: "a"}, "others": []}, "must be 1, 2, 3"),
        ({**COMMON, "type": "code", "listing": "<1>", "terms": {1: "a"}, "others": ["b"], "why": {"a": "w"},
          "runs": "{listing}"}, "why must hold each term"),
        ({**COMMON, "type": "code", "listing": "<1> <2>", "terms": {1: "a"}, "others": [], "why": {"a": "w"},
          "runs": "{listing}"}, "the numbers in the listing"),
    ],
)  # fmt: skip
def test_faults_in_a_question_are_named(question, message):
    assert message in questions.fault_of(question)


def test_a_good_question_has_no_fault():
    assert questions.fault_of(GOOD) is None


def test_a_faulty_file_names_question_and_file(tmp_path, monkeypatch):
    (tmp_path / "ch99.yaml").write_text(yaml.safe_dump([GOOD, {**GOOD, "id": "2", "text": ""}]), encoding="utf-8")
    monkeypatch.setattr(questions, "FOLDER", tmp_path)
    with pytest.raises(questions.QuestionFault, match="ch99.yaml, question 2: id, type"):
        questions.chapter_questions("ch99")


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="no questions for 'ch98'; there are some for ch01, ch02"):
        questions.select("ch98")
    with pytest.raises(ValueError, match=r"no questions for '5.9'; there are some for quick, 5.1"):
        questions.select("5.9")
    assert [question["id"] for question in questions.select("ch07", "quick")] == [f"7.MC-{i}" for i in range(1, 7)]
    assert {question["section"] for question in questions.select("D.3")} == {"D.3"}
    assert len(questions.select("ch02")) == 52


# Marking -------------------------------------------------------------------------------------------------


def right_answer(question):
    """The answer that gets all points, in the form in which a widget gives it."""
    kind = question["type"]
    if kind == "choice":
        return next(option["text"] for option in question["options"] if "right" in option)
    if kind in ("code", "diagram"):
        return dict(question["terms" if kind == "code" else "labels"])
    return {"blank": lambda q: q["answers"][0], "match": lambda q: {term: meaning for term, meaning in q["pairs"]},
            "order": lambda q: q["steps"], "open": lambda q: q["points"]}[kind](question)  # fmt: skip


@pytest.mark.parametrize("question", ALL, ids=IDS)
def test_the_right_answer_gets_all_points(question):
    right, of, remarks = questions.marked(question, right_answer(question))
    assert right == of > 0 and remarks == []


def test_every_wrong_option_is_told_why():
    for question in of_type("choice"):
        for option in question["options"]:
            if "why" in option:
                assert questions.marked(question, option["text"]) == (0, 1, [option["why"]])


def test_answers_in_words_are_taken_as_they_are_meant():
    question = questions.select("ch03", "quick")[3]
    for text in ("multi-head", " Multi-Head ", "'multihead'.", "MULTI  HEAD"):
        assert questions.marked(question, text)[0] == 1
    assert questions.marked(question, "Single-head")[2] == [question["wrong"]["single-head"]]
    assert questions.marked(question, "x y") == (0, 1, ["'x y' is not what is meant."])


def test_terms_that_were_mixed_up_are_named():
    question = next(question for question in ALL if question["id"] == "7.8-Q6")
    pairs = dict(question["pairs"])
    first, second, third = pairs
    right, of, remarks = questions.marked(question, {first: pairs[second], second: pairs[first]})
    assert (right, of) == (0, 3)
    assert remarks == [f"{first}: what you chose describes {second}.", f"{second}: what you chose describes {first}.",
                       f"{third}: nothing is chosen yet."]  # fmt: skip


def test_code_and_order_count_their_parts():
    code = next(question for question in ALL if question["id"] == "7.4-Q6")
    right, of, remarks = questions.marked(code, {1: "50265", 2: "padded[:-1]"})
    assert (right, of) == (1, 3)
    assert remarks == ["1: " + code["why"]["50265"], "3: nothing is chosen yet."]
    order = next(question for question in ALL if question["id"] == "1.7-Q6")
    a, b, *rest = order["steps"]
    assert questions.marked(order, [b, a, *rest]) == (2, 4, [f"The first step that is out of place: {b}"])


# As Markdown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ALL, ids=IDS)
def test_a_question_can_be_read_without_widgets(question):
    text = questions.as_markdown(question, 1)
    before, _, after = text.partition("<details>")
    assert question["text"] in before and question["explanation"] in after and after.rstrip().endswith("</details>")
    if question["type"] == "diagram":
        assert f"The drawing: {diagrams.DRAWINGS[question['drawing']][1]}" in before
    if question["type"] == "choice":
        letter = re.search(r"([A-F])\) ", after)[1]
        assert f"- {letter}) {right_answer(question)}" in before


# The widget ----------------------------------------------------------------------------------------------


def give(asked, answer):
    """Put an answer into the controls of a question, as a learner would."""
    if isinstance(asked, quiz.Choice):
        asked.radio.value = answer
    elif isinstance(asked, quiz.Blank):
        asked.field.value = answer
    elif isinstance(asked, quiz.Dropdowns):
        for key, value in answer.items():
            asked.chosen[key].value = value
    elif isinstance(asked, quiz.Order):
        for place, step in enumerate(answer):
            asked.list.value = step
            while asked.given().index(step) > place:
                asked.up.click()
    else:
        asked.field.value = "an answer"
        asked.reveal.click()
        for point, box in zip(asked.question["points"], asked.points.children):
            box.value = point in answer


@pytest.mark.parametrize("kind", questions.TYPES)
def test_a_right_and_a_wrong_answer_of_each_type(kind):
    question = of_type(kind)[0]
    shown = quiz.Quiz([question], "t")
    asked = shown.asked[question["id"]]
    if kind not in ("order",):
        shown.check.click()
        assert "Answer first." in shown.feedback.value and progress.load()["answers"] == {}
    wrong = {
        "choice": lambda: next(option["text"] for option in question["options"] if "why" in option),
        "blank": lambda: "nonsense",
        "match": lambda: {question["pairs"][0][0]: question["pairs"][1][1]},
        "code": lambda: {1: question["others"][0]},
        "diagram": lambda: {1: question["others"][0]},
        "order": lambda: list(reversed(question["steps"])),
        "open": lambda: [],
    }[kind]()
    give(asked, wrong)
    shown.check.click()
    assert "Not right." in shown.feedback.value or "Partly right." in shown.feedback.value
    assert progress.load()["answers"][question["id"]]["best"] < 1 and "0 solved" in shown.head.value
    give(asked, right_answer(question))
    shown.check.click()
    assert "<b>Right.</b>" in shown.feedback.value and quiz.as_html(question["explanation"]) in shown.feedback.value
    assert progress.load()["answers"][question["id"]]["best"] == 1 and "1 solved" in shown.head.value


def test_the_answer_is_told_after_a_second_wrong_try_only():
    question = of_type("choice")[0]
    shown = quiz.Quiz([question], "t")
    wrong = [option["text"] for option in question["options"] if "why" in option]
    give(shown.asked[question["id"]], wrong[0])
    shown.check.click()
    assert "The answer:" not in shown.feedback.value
    give(shown.asked[question["id"]], wrong[1])
    shown.check.click()
    assert "The answer:" in shown.feedback.value and quiz.as_html(right_answer(question)) in shown.feedback.value
    assert right_answer(question).endswith(".") and ".." not in shown.feedback.value


def test_open_questions_want_an_answer_before_they_show_one():
    question = of_type("open")[0]
    asked = KINDS["open"](question)
    asked.reveal.click()
    assert "Write first." in asked.model.value and not asked.points.children and asked.given() is None
    asked.field.value = "x"
    asked.reveal.click()
    assert quiz.as_html(question["answer"]) in asked.model.value
    assert len(asked.points.children) == len(question["points"])
    assert asked.given() == []


def test_going_through_a_quiz_and_coming_back():
    shown = make_quiz("ch07", "quick")
    assert shown.back.disabled and not shown.forth.disabled and "question 1 of 6" in shown.head.value
    give(shown.asked["7.MC-1"], right_answer(shown.question))
    shown.check.click()
    for _ in range(10):
        shown.forth.click()
    assert shown.forth.disabled and "question 6 of 6" in shown.head.value and "1 solved" in shown.head.value
    for _ in range(10):
        shown.back.click()
    assert shown.asked["7.MC-1"].radio.value == right_answer(shown.question)
    again = make_quiz("ch07", "quick")
    assert "You answered this before:" in again.feedback.value and "after 1 try" in again.feedback.value


def test_an_empty_place_shows_that_something_is_to_be_chosen():
    asked = KINDS["match"](of_type("match")[0])
    assert {(box.value, box.index, box.label) for box in asked.chosen.values()} == {("", 0, NOTHING)}


def test_steps_at_the_ends_stay_where_they_are():
    asked = KINDS["order"](of_type("order")[0])
    before = asked.given()
    asked.list.value = before[0]
    asked.up.click()
    assert asked.given() == before
    asked.down.click()
    assert asked.given() == [before[1], before[0], *before[2:]] and asked.list.value == before[0]


def test_no_question_is_solved_as_it_is_shown():
    for question in ALL:
        given = KINDS[question["type"]](question).given()
        assert given is None or questions.marked(question, given)[0] < questions.marked(question, given)[1]


def test_a_quiz_is_few_widgets_and_shows_as_markdown():
    def count(widget):
        return 1 + sum(map(count, getattr(widget, "children", ())))

    shown = make_quiz("ch02")
    assert len(shown.chosen) == 52 and len(shown.asked) == 1 and count(shown.view) < 20
    bundle = shown._repr_mimebundle_()
    assert bundle["text/markdown"].count("<details>") == 52 and "52 questions" in bundle["text/plain"]


def test_marks_of_markdown_become_html_and_all_else_is_escaped():
    assert quiz.as_html("a `b<c` *d* **e** <|unk|> & 2 * 3 * 4") == (
        "a <code>b&lt;c</code> <i>d</i> <b>e</b> &lt;|unk|&gt; &amp; 2 * 3 * 4"
    )
    assert NOTHING not in {term for question in of_type("code") for term in questions.bank(question)}


def test_mixed_questions_come_from_the_chosen_chapters_and_the_solved_ones_last():
    chosen = quiz.mixed(("ch05", "appendix_e"), 46, seed=1)
    assert len({question["id"] for question in chosen}) == 46
    assert chosen == quiz.mixed(("ch05", "appendix_e"), 46, seed=1)
    solved = {question["id"] for question in chosen[:5]}
    for name in solved:
        progress.record_answer(name, 1, 1)
    assert {question["id"] for question in quiz.mixed(("ch05", "appendix_e"), 46)[-5:]} == solved
    assert len(quiz.mixed(("appendix_e",), 50)) == 10


def test_choosing_chapters_and_seeing_the_score():
    shown = quiz.test_yourself()
    shown.chapters.value = ("appendix_e",)
    shown.begin.click()
    asked = shown.quiz
    assert len(asked.chosen) == 10 and shown.place.children == (asked.view,) and shown.score.value == ""
    give(asked.asked[asked.question["id"]], right_answer(asked.question))
    asked.check.click()
    assert "appendix_e" in shown.score.value and "1 of " in shown.score.value
    shown.chapters.value = ()
    shown.begin.click()
    assert shown.quiz is asked


# Progress ------------------------------------------------------------------------------------------------


def test_what_is_kept_of_answers_and_exercises(own_progress):
    progress.record_answer("q", 1, 2)
    kept = progress.record_answer("q", 0, 2)
    assert (kept["best"], kept["tries"], kept["right"]) == (0.5, 2, 0) and kept["first"] <= kept["last"]
    progress.record_exercise("2.1", "right")
    assert progress.record_exercise("2.1", "wrong")["solved"]
    assert json.loads(own_progress.read_text(encoding="utf-8"))["version"] == 1
    assert set(progress.load()["exercises"]) == {"2.1"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"answers": []}', '{"answers": {"q": 1}}', "\x00\x01", '{"answers": {"q": {}}}',
     '{"cards": {"c": {}}}', '{"cards": {"c": {"due": "soon"}}}', '{"cards": {"c": {"due": "2026-01-01T00:00:00"}}}'],
)  # fmt: skip
def test_a_damaged_file_is_set_aside(own_progress, capsys, content):
    own_progress.parent.mkdir()
    own_progress.write_text(content, encoding="utf-8")
    assert progress.load() == {"answers": {}, "exercises": {}, "cards": {}}
    assert "was set aside as progress.json.damaged-" in capsys.readouterr().out
    aside = list(own_progress.parent.glob("progress.json.damaged-*"))
    assert [path.read_text(encoding="utf-8") for path in aside] == [content]
    assert progress.record_answer("q", 1, 1)["best"] == 1


def test_a_deleted_file_begins_anew(own_progress):
    progress.record_answer("q", 1, 1)
    own_progress.unlink()
    assert progress.load()["answers"] == {} and progress.record_answer("q", 0, 1)["tries"] == 1


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert progress.record_answer("q", 1, 1)["best"] == 1
    assert capsys.readouterr().out.count("could not be kept") == 1


def test_a_file_that_cannot_be_read_is_not_written_over(own_progress, monkeypatch, capsys):
    for name in ("a", "b"):
        progress.record_answer(name, 1, 1)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", denied)
        assert progress.load()["answers"] == {} and progress.record_answer("c", 1, 1)["best"] == 1
    assert list(progress.load()["answers"]) == ["a", "b"]
    assert capsys.readouterr().out.count("Permission denied); set COURSE_PROGRESS to a folder of yours, or to off") == 2


def test_a_damaged_file_that_cannot_be_set_aside_stays(own_progress, monkeypatch, capsys):
    own_progress.parent.mkdir()
    own_progress.write_text("{", encoding="utf-8")

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(progress.os, "replace", denied)
    assert progress.record_answer("q", 1, 1)["best"] == 1
    assert own_progress.read_text(encoding="utf-8") == "{" and "set aside" not in capsys.readouterr().out


def test_a_home_that_nobody_knows_stops_nothing(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROGRESS", "~nobody-of-this-name/x")
    assert progress.path() is None and progress.record_answer("q", 1, 1)["best"] == 1
    assert "your progress is not kept" in capsys.readouterr().out


def test_nothing_is_kept_if_that_is_wanted(monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    assert progress.path() is None and progress.record_answer("q", 1, 1)["best"] == 1
    assert progress.load()["answers"] == {}


def test_a_relative_folder_counts_from_the_courses(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_PROGRESS", "mine")
    assert progress.path() == ROOT / "mine" / "progress.json"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no kind 'x' of progress; the kinds are answers, exercises, cards"):
        progress.update("x", "q", lambda known: known)


def _writer(folder, name):
    import os

    os.environ["COURSE_PROGRESS"] = folder
    for number in range(25):
        progress.record_answer(f"{name}-{number}", 1, 1)
        progress.record_answer("both", 1, 1)


def test_two_notebooks_at_once_lose_nothing(own_progress):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_writer, args=(str(own_progress.parent), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    kept = progress.load()["answers"]
    assert len(kept) == 51 and kept["both"]["tries"] == 50


# Cards ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SUM_OF_REVISION = {"2026-11-29T12:00:00+00:00": "0d78b0038e093949"}


def content_sum():
    """A checksum of the cards, which are told to Anki as changed by a later revision only."""
    return hashlib.sha256(json.dumps(cards.all_cards(), sort_keys=True).encode()).hexdigest()[:16]


def test_cards_are_complete_and_their_revision_fits():
    every = cards.all_cards()
    assert len({card["id"] for card in every}) == len(every)
    assert sum(card["id"].startswith("deck-") for card in every) == 24
    assert all(set(card) == {"id", "chapter", "front", "back"} and card["front"].strip() and card["back"].strip()
               for card in every)  # fmt: skip
    assert {card["chapter"] for card in every} == set(CHAPTERS) == set(anki.TITLES)
    assert len({cards.number_of(card["id"]) for card in every}) == len(every)
    revision = yaml.safe_load(cards.FILE.read_text(encoding="utf-8"))["revision"]
    assert SUM_OF_REVISION == {revision: content_sum()}, "the cards changed: raise their revision, and this sum"


def test_a_card_comes_again_later_and_later():
    times, now = [], NOW
    for _ in range(5):
        due = cards.answer("ch02-token", "Good", now)
        times.append(due - now)
        now = due
    assert times[0] == timedelta(minutes=10) and times[1] >= timedelta(days=1) and times[1:] == sorted(times[1:])
    assert cards.answer("ch02-token", "Again", now) - now < timedelta(hours=1)


def test_new_cards_come_in_small_numbers_and_overdue_ones_first():
    chapter = cards.cards_of("ch02")
    assert cards.due(chapter, NOW) == chapter[:5]
    cards.answer(chapter[7]["id"], "Good", NOW - timedelta(days=2))
    cards.answer(chapter[3]["id"], "Good", NOW - timedelta(days=1))
    assert cards.due(chapter, NOW)[:3] == [chapter[7], chapter[3], chapter[0]]


def test_a_card_kept_by_another_version_begins_anew():
    progress.update("cards", "ch02-token", lambda known: {"due": NOW.isoformat(), "what": 1})
    assert cards.answer("ch02-token", "Good", NOW) == NOW + timedelta(minutes=10)


def test_grades_and_chapters_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no grade 'good'; the grades are Again, Hard, Good, Easy"):
        cards.answer("x", "good")
    with pytest.raises(ValueError, match="no cards for 'ch99'; there are some for ch02"):
        cards.cards_of("ch99")


def test_a_stack_of_cards():
    stack = cards.flashcards("ch03")
    assert "5 to do" in stack.head.value and stack.buttons.children == (stack.turn,)
    first = stack.stack[0]
    stack.turn.click()
    assert cards.Cards.as_html(first["back"]) in stack.face.value
    stack.grades[0].click()
    assert stack.stack[-1] is first and len(stack.stack) == 5
    for _ in range(5):
        stack.turn.click()
        stack.grades[3].click()
    left = len(cards.cards_of("ch03")) - 5
    assert "Nothing more is due now. The next card comes on " in stack.face.value
    assert f"{left} are left" in stack.face.value and stack.buttons.children == ()
    assert len(progress.load()["cards"]) == 5
    assert stack._repr_mimebundle_()["text/markdown"].count("<details>") == len(cards.cards_of("ch03"))


# Anki ----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_package(tmp_path, capsys):
    assert anki.main([str(tmp_path / "a.apkg")]) == 0
    assert f"{len(cards.all_cards())} cards in 10 decks" in capsys.readouterr().out
    assert anki.main([]) == 2 and anki.main(["x.txt"]) == 2
    assert anki.main([str(tmp_path / "none" / "a.apkg")]) == 1 and "cannot be written" in capsys.readouterr().out


# The report ----------------------------------------------------------------------------------------------


def test_the_report_counts_by_section(capsys):
    from shared.exercises import check
    from shared.study import report

    assert "none" in report.as_text()
    progress.record_answer("7.MC-1", 1, 1)
    progress.record_answer("7.MC-2", 0, 1)
    cards.answer("ch02-token", "Good", datetime.now(UTC) - timedelta(days=1))
    check("2.1", lambda *args: None)
    assert progress.load()["exercises"]["2.1"]["outcome"] == "wrong"
    progress.record_exercise("2.1", "right")
    text = report.as_text()
    assert re.search(r"ch07 +quick +1 of 6", text) and re.search(r"ch02 +1 of +\d+: 2.1", text)
    assert f"1 begun of {len(cards.all_cards())}, 1 due today" in text
    assert report.main([]) == 0 and report.main(["x"]) == 2
    assert "ch07" in capsys.readouterr().out


def test_a_check_need_not_wait_for_widgets_and_drawings():
    code = "import sys; from shared.study import progress; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"ipywidgets", "matplotlib", "yaml", "torch"} & {name.split(".")[0] for name in loaded.split()}


def test_a_stub_is_no_progress():
    from shared.exercises import check

    def stub(*args):
        raise NotImplementedError("exercise 2.1")

    check("2.1", stub)
    assert progress.load()["exercises"] == {}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system takes its time zone from elsewhere")
@pytest.mark.parametrize("zone", ["JST-9", "PST8"])
def test_today_is_the_learners_day(monkeypatch, zone):
    from shared.study import report

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        for name, due in (("ch02-token", midnight - timedelta(minutes=1)), ("ch02-bpe", midnight)):
            kept = {"due": due.astimezone(UTC).isoformat()}
            progress.update("cards", name, lambda known, kept=kept: kept)
        assert "1 due today" in report.as_text()
    finally:
        monkeypatch.undo()
        time.tzset()
