"""The story tasks of chapter 7: each story keeps its own task, and what is kept out of training stays out."""

import re

import pytest

from shared import stories
from shared.stories import FEATURES, LAST_WORDS, SIGNS, last_sentence, make_stories

KINDS = ("training", "held out", "new words")


@pytest.mark.parametrize("kind", KINDS)
def test_each_story_keeps_its_task_and_no_other(kind):
    for entry in make_stories(400, kind=kind):
        story = entry["output"]
        assert all(re.search(rf"\b{word}\b", story) for word in entry["words"])
        assert [f for f in FEATURES if re.search(SIGNS[f], story, re.IGNORECASE)] == [entry["feature"]]
        assert [e for e, word in LAST_WORDS.items() if word in last_sentence(story)] == [entry["ending"]]
        assert entry["input"] == (f"Words: {', '.join(entry['words'])}. With: {entry['feature']}. "
                                  f"Ending: {entry['ending']}.")  # fmt: skip
        sentences = re.split(r"(?<=[.!?])\s+", story)
        assert len(set(sentences)) == len(sentences)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]|  ", story)


@pytest.mark.parametrize("kind", KINDS)
def test_other_listed_words_do_not_slip_in(kind):
    """A story has the three words of its task and no other of the lists, so that the judge's count means something."""
    listed = {*stories.WHO, *stories.THING, *stories.PLACE, *(word for words in stories.NEW.values() for word in words)}
    for entry in make_stories(400, kind=kind):
        assert set(re.findall(r"\w+", entry["output"])) & listed == set(entry["words"])


def test_what_is_kept_out_of_training():
    trained = make_stories(3_000)
    for entry in make_stories(200, kind="held out"):
        who, thing = (next(word for word in entry["words"] if word in group) for group in (stories.WHO, stories.THING))
        assert not any({who, thing} <= set(other["words"]) for other in trained)
        assert not any((entry["feature"], entry["ending"]) == (o["feature"], o["ending"]) for o in trained)
    words = {word for entry in make_stories(200, kind="new words") for word in entry["words"]}
    text = " ".join(entry["output"] for entry in trained)
    assert not any(re.search(rf"\b{word}\b", text) for word in words)


def test_all_parts_of_a_task_occur_in_training():
    trained = make_stories(3_000)
    assert {word for entry in trained for word in entry["words"]} == {*stories.WHO, *stories.THING, *stories.PLACE}
    assert {entry["feature"] for entry in trained} == set(FEATURES)
    assert {entry["ending"] for entry in trained} == set(LAST_WORDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_stories_and_no_task_twice(kind):
    first = make_stories(300, kind=kind)
    assert first == make_stories(300, kind=kind) and first[:50] == make_stories(50, kind=kind)
    assert first != make_stories(300, seed=1, kind=kind)
    assert len({(*sorted(e["words"]), e["feature"], e["ending"]) for e in first}) == 300


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="n must be a whole number"):
        make_stories(0)
    with pytest.raises(ValueError, match="no stories of the kind 'test'"):
        make_stories(1, kind="test")
    with pytest.raises(ValueError, match="ask for fewer"):
        make_stories(4_000, kind="new words")


@pytest.mark.parametrize(
    ("text", "want"),
    [("One. Two!", "Two!"), ('He said "no." Then he left.', "Then he left."), ("One", "One"), ("", ""), ("A. ", "A.")],
)
def test_the_last_sentence(text, want):
    assert last_sentence(text) == want
