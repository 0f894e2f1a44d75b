"""Test yourself: quizzes, flashcards and what a learner has done.

    from shared.study import flashcards, quiz

    quiz("5.2")              # the questions of a section
    quiz("ch05", "quick")    # those at the end of a chapter
    flashcards("ch05")       # its cards, as far as they are due
    show_progress()          # what is solved, by section

Importing this package imports the standard library only: widgets and drawings come when one of these is asked for, so
that an exercise's check, which keeps its outcome in ``shared.study.progress``, need not wait for them.
"""

import importlib

_PLACES = {"flashcards": "cards", "quiz": "quiz_widget", "test_yourself": "quiz_widget", "show_progress": "report"}


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
