"""What has been done so far, by chapter and section: ``python3 -m shared progress``; ``show_progress()`` in a cell."""

import sys
from datetime import datetime

from shared.study import cards, progress, questions


def exercises_by_chapter():
    """Numbers of all exercises, by chapter: {"ch02": ["2.1", ...], ...}."""
    from shared import exercises

    folder = questions.FOLDER.parent.parent / "exercises"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    return {module: exercises.known_exercises(module) for module in modules}


def rows():
    """[(chapter, section, solved, of), ...] of the questions, in reading order; only sections with an answer."""
    kept = progress.load()["answers"]
    found = []
    for chapter in questions.chapters():
        sections = {}
        for question in questions.chapter_questions(chapter):
            sections.setdefault(question["section"], []).append(question["id"])
        for section, names in sections.items():
            if any(name in kept for name in names):
                solved = sum(kept.get(name, {}).get("best", 0) == 1 for name in names)
                found.append((chapter, section, solved, len(names)))
    return found


def as_text():
    """The report as lines of text."""
    data = progress.load()
    if progress.path() is None:
        return "Nothing is kept: COURSE_PROGRESS is off."
    lines = [f"Your progress, kept in {progress.path()}", ""]
    lines += ["questions"]
    answered = [f"   {chapter:10} {section:6} {solved:3} of {of}" for chapter, section, solved, of in rows()]
    lines += answered or ["   none"]
    lines += ["exercises"]
    for chapter, names in exercises_by_chapter().items():
        solved = [name for name in names if data["exercises"].get(name, {}).get("solved")]
        if solved:
            lines.append(f"   {chapter:10} {len(solved):2} of {len(names):2}: {', '.join(solved)}")
    if lines[-1] == "exercises":
        lines.append("   none")
    begun = [data["cards"][card["id"]] for card in cards.all_cards() if card["id"] in data["cards"]]
    # Days are the learner's, and what is kept is in UTC.
    today = sum(datetime.fromisoformat(card["due"]).astimezone().date() <= datetime.now().date() for card in begun)
    lines += ["cards", f"   {len(begun)} begun of {len(cards.all_cards())}, {today} due today"]
    return "\n".join(lines)


def show_progress():
    """Print the report, for a cell of a notebook."""
    print(as_text())


def main(argv):
    """Print the report; returns the exit status."""
    if argv:
        print("usage: python3 -m shared progress")
        return 2
    show_progress()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
