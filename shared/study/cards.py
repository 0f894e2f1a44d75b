"""Flashcards with spaced repetition: which cards there are, which are due, and what an answer changes.

The schedule is FSRS's (free spaced repetition scheduler, the one that Anki uses by default), from the package ``fsrs``:
for each card it keeps how stable the memory is and how hard the card is, and asks again when the chance to remember has
fallen to 0.9.
"""

import functools
import zlib
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import yaml

from shared.course import count_of
from shared.study import progress

FILE = Path(__file__).parent / "cards.yaml"
GRADES = {"Again": 1, "Hard": 2, "Good": 3, "Easy": 4}


@functools.cache
def _file():
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def all_cards():
    """All cards, dictionaries with id, chapter, front and back, in the order of the file."""
    return _file()["cards"]


def cards_of(chapter):
    """The cards of a chapter ("ch05"). Raises ValueError if it has none; names the chapters that have some."""
    found = [card for card in all_cards() if card["chapter"] == chapter]
    if not found:
        known = dict.fromkeys(card["chapter"] for card in all_cards())
        raise ValueError(f"there are no cards for {chapter!r}; there are some for {', '.join(known)}")
    return found


def revision():
    """When the cards were last changed, in whole seconds since 1970."""
    return int(datetime.fromisoformat(_file()["revision"]).timestamp())


def number_of(card_id):
    """A number for a card, the same on every machine; FSRS would take the time, and a millisecond for each."""
    return zlib.crc32(card_id.encode())


def due(cards, now=None, new=5):
    """Cards to be asked now: those whose day has come, the longest overdue first, then up to ``new`` unseen ones."""
    now = now or datetime.now(UTC)
    known = progress.load()["cards"]
    seen = [(datetime.fromisoformat(known[card["id"]]["due"]), card) for card in cards if card["id"] in known]
    ripe = sorted((pair for pair in seen if pair[0] <= now), key=lambda pair: pair[0])
    unseen = [card for card in cards if card["id"] not in known]
    return [card for _, card in ripe] + unseen[:new]


def answer(card_id, grade, now=None):
    """Keep an answer to a card, and return when it is due next, as a datetime.

    Args:
        grade: "Again", "Hard", "Good" or "Easy".
        now: when it was answered; a datetime with a time zone.
    """
    from fsrs import Card, Rating, Scheduler

    if grade not in GRADES:
        raise ValueError(f"there is no grade {grade!r}; the grades are {', '.join(GRADES)}")
    now = now or datetime.now(UTC)

    def change(known):
        try:
            card = Card.from_dict(known) if known else Card(card_id=number_of(card_id))
        except (KeyError, TypeError, ValueError):  # a card kept by another version: it begins anew
            card = Card(card_id=number_of(card_id))
        card, _ = Scheduler(enable_fuzzing=False).review_card(card, Rating(GRADES[grade]), now)
        return card.to_dict()

    return datetime.fromisoformat(progress.update("cards", card_id, change)["due"])


class Cards:
    """A stack of cards, one at a time; see ``flashcards``."""

    def __init__(self, cards, title):
        import ipywidgets

        from shared.widgets.keys import box_with_keys

        self.cards, self.title = cards, title
        self.stack = due(cards)
        self.head, self.face = ipywidgets.HTML(), ipywidgets.HTML()
        self.turn = ipywidgets.Button(description="Show answer", button_style="primary")
        self.turn.on_click(self.show_back)
        self.grades = [ipywidgets.Button(description=grade) for grade in GRADES]
        for button in self.grades:
            button.on_click(self.grade)
        self.buttons = ipywidgets.HBox([self.turn])
        self.view = box_with_keys([self.head, self.face, self.buttons])
        self.show_front()

    def show_front(self):
        """Show the front of the first card of the stack, or that nothing is due."""
        self.head.value = f"<b>{escape(self.title)}</b> &middot; {len(self.stack)} to do"
        if not self.stack:
            self.face.value = self.outlook()
            self.buttons.children = []
            return
        self.face.value = self.as_html(self.stack[0]["front"])
        self.buttons.children = [self.turn]

    def outlook(self):
        """What comes next when nothing is due: the next card that was seen, and the new ones."""
        known = progress.load()["cards"]
        dates = [datetime.fromisoformat(known[card["id"]]["due"]) for card in self.cards if card["id"] in known]
        text = "Nothing more is due now."
        if dates:
            text += f" The next card comes on {min(dates).astimezone():%d %B at %H:%M}."
        n_new = len(self.cards) - len(dates)
        return text + (f" Run the cell again for new cards; {n_new} are left." if n_new else "")

    @staticmethod
    def as_html(text):
        """A face of a card; in the theme's own colours."""
        return (f'<div style="border: 1px solid #888888; border-radius: 8px; padding: 14px 18px; max-width: 560px; '
                f'min-height: 40px; line-height: 1.5">{escape(text)}</div>')  # fmt: skip

    def show_back(self, button=None):
        """Show front and back, and the four grades. ``button`` is what ipywidgets passes; it is not used."""
        card = self.stack[0]
        self.face.value = self.as_html(card["front"]) + self.as_html(card["back"])
        self.buttons.children = self.grades

    def grade(self, button):
        """Keep the grade on the pressed button; a card that was not known comes again at the end."""
        card = self.stack.pop(0)
        answer(card["id"], button.description)
        if button.description == "Again":
            self.stack.append(card)
        self.show_front()

    def _repr_mimebundle_(self, include=None, exclude=None):
        from shared.widgets.explorer import view_bundle

        lines = [f"- {card['front']} <details><summary>Answer</summary>{card['back']}</details>" for card in self.cards]
        return view_bundle(self.view, {
            "text/markdown": "\n".join([f"**{self.title}**", "", *lines]),
            "text/plain": f"{self.title}: {count_of(len(self.cards), 'card')}",
        })  # fmt: skip


def flashcards(chapter=None):
    """The cards of a chapter ("ch05") that are due, or of all chapters, as a widget."""
    cards = all_cards() if chapter is None else cards_of(chapter)
    return Cards(cards, f"Flashcards: {chapter or 'all chapters'}")
