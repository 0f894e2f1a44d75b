"""The flashcards as a package for Anki: ``python3 -m shared anki course.apkg``, a deck for each chapter.

Anki takes a later package as a correction of an earlier one, and keeps what was learned, only if the note type and its
fields are the same, each note has the same guid, and the package's time is later. So the ids here are fixed, two spare
fields are there from the beginning, and the time is that of the cards' revision.
"""

import sys
import zlib
from html import escape
from pathlib import Path

from shared.study import cards

MODEL_ID, COURSE = 1_764_400_011, "Build a large language model"
FIELDS = ("Front", "Back", "Section", "Spare 1", "Spare 2")
TITLES = {
    "ch01": "1 Large language models", "ch02": "2 Text data", "ch03": "3 Attention", "ch04": "4 The GPT model",
    "ch05": "5 Pretraining", "ch06": "6 Classification", "ch07": "7 Instructions", "appendix_a": "A PyTorch",
    "appendix_d": "D Training loop", "appendix_e": "E LoRA",
}  # fmt: skip


def deck_id(chapter):
    """A number for a chapter's deck, the same each time, in the range that Anki uses."""
    return 1_764_000_000 + zlib.crc32(chapter.encode()) % 100_000_000


def write_package(path):
    """Write the package; returns how many cards each deck has, by chapter. Raises OSError if it cannot be written."""
    import genanki

    model = genanki.Model(
        MODEL_ID, f"{COURSE}: card", fields=[{"name": name} for name in FIELDS],
        templates=[{"name": "Card", "qfmt": "{{Front}}", "afmt": "{{FrontSide}}<hr id=answer>{{Back}}"}],
        css=".card { font-family: sans-serif; font-size: 20px; text-align: center; }",
    )  # fmt: skip
    decks = {}
    for card in cards.all_cards():
        chapter = card["chapter"]
        if chapter not in decks:
            decks[chapter] = genanki.Deck(deck_id(chapter), f"{COURSE}::{TITLES[chapter]}")
        # Fields are HTML: what looks like a tag, such as an end-of-text token, would vanish.
        fields = [escape(card["front"]), escape(card["back"]), chapter, "", ""]
        decks[chapter].add_note(genanki.Note(model, fields, guid=f"llm-course-{card['id']}"))
    genanki.Package(list(decks.values())).write_to_file(str(path), timestamp=cards.revision())
    return {chapter: len(deck.notes) for chapter, deck in decks.items()}


def main(argv):
    """Write the package that the command line names; returns the exit status."""
    if len(argv) != 1 or not argv[0].endswith(".apkg"):
        print("usage: python3 -m shared anki FILE.apkg")
        return 2
    try:
        counts = write_package(Path(argv[0]))
    except OSError as error:
        print(f"{argv[0]} cannot be written ({error.strerror}); name a file in a folder of yours")
        return 1
    print(f"{argv[0]}: {sum(counts.values())} cards in {len(counts)} decks; open it with Anki")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
