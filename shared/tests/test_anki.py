"""The Anki package, read by Anki itself, where the package ``anki`` is installed (.ci/run tries to)."""

import pytest

from shared.study import anki, cards

pytest.importorskip("anki.collection", reason="the package anki is not installed: pip install anki==26.9.3")


@pytest.fixture
def collection(tmp_path):
    from anki.collection import Collection

    opened = Collection(str(tmp_path / "collection.anki2"))
    yield opened
    opened.close()


def take(collection, path):
    """Import a package as Anki's own dialog does by default."""
    from anki.collection import ImportAnkiPackageOptions, ImportAnkiPackageRequest

    options = ImportAnkiPackageOptions(with_scheduling=False, with_deck_configs=False)
    return collection.import_anki_package(ImportAnkiPackageRequest(package_path=str(path), options=options))


def fields_of(collection, card_id):
    notes = [collection.get_note(number) for number in collection.find_notes("")]
    return next(note.fields for note in notes if note.guid.endswith(card_id))


def test_cards_per_deck(collection, tmp_path):
    counts = anki.write_package(tmp_path / "a.apkg")
    take(collection, tmp_path / "a.apkg")
    decks = {deck.name: deck.id for deck in collection.decks.all_names_and_ids()}
    for chapter, n in counts.items():
        name = f"{anki.COURSE}::{anki.TITLES[chapter]}"
        assert len(collection.decks.cids(decks[name])) == n > 0
    assert collection.card_count() == len(cards.all_cards())


def test_taken_twice_nothing_is_doubled(collection, tmp_path):
    for name in ("a.apkg", "b.apkg"):
        anki.write_package(tmp_path / name)
        take(collection, tmp_path / name)
    assert collection.card_count() == len(cards.all_cards())


def test_what_looks_like_a_tag_is_text(collection, tmp_path):
    anki.write_package(tmp_path / "a.apkg")
    take(collection, tmp_path / "a.apkg")
    assert "&lt;|endoftext|&gt;" in fields_of(collection, "ch02-special")[1]


def test_a_correction_arrives_and_what_was_learned_stays(collection, tmp_path, monkeypatch):
    anki.write_package(tmp_path / "a.apkg")
    take(collection, tmp_path / "a.apkg")
    note = next(n for n in collection.find_notes("") if collection.get_note(n).guid.endswith("ch02-token"))
    card = collection.get_note(note).cards()[0]
    card.start_timer()
    states = collection._backend.get_scheduling_states(card.id)
    from anki.scheduler.v3 import CardAnswer

    collection.sched.answer_card(collection.sched.build_answer(card=card, states=states, rating=CardAnswer.EASY))
    before = collection.get_card(card.id)
    assert before.reps == 1 and before.ivl > 0
    correction = {"back": "A corrected answer."}
    changed = [each | (correction if each["id"] == "ch02-token" else {}) for each in cards.all_cards()]
    monkeypatch.setattr(cards, "all_cards", lambda: changed)
    monkeypatch.setattr(cards, "revision", lambda: 4_000_000_000)
    anki.write_package(tmp_path / "b.apkg")
    take(collection, tmp_path / "b.apkg")
    assert collection.get_note(note).fields[1] == "A corrected answer."
    after = collection.get_card(card.id)
    assert (after.reps, after.ivl, after.due) == (before.reps, before.ivl, before.due)
    assert collection.card_count() == len(changed)
