"""Test yourself: quizzes, flashcards and what a learner has done.

    from shared.study import flashcards, quiz

    quiz("5.2")              # the questions of a section
    quiz("ch05", "quick")    # those at the end of a chapter
    flashcards("ch05")       # its cards, as far as they are due
    show_progress()          # what is solved, by section
"""

from shared.study.cards import flashcards
from shared.study.quiz_widget import quiz, test_yourself
from shared.study.report import show_progress

__all__ = ["flashcards", "quiz", "show_progress", "test_yourself"]
