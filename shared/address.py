"""Where git finds the course: one line in ``shared/address.txt``, and what is made of it.

    python3 -m shared address                      show it
    python3 -m shared address https://...          set it: in that file, in every notebook's first cells, in the README
    python3 -m shared address none                 forget it

A notebook that is opened alone on Colab must know the address, so it stands in each one's setup cell. A badge that
opens a notebook there can only be made for GitHub, because Colab opens notebooks from nowhere else by an address.
"""

import re
import sys
from pathlib import Path

from shared.course import ROOT, FileProblem, notebooks, read_notebook, write_file

FILE = Path(__file__).with_name("address.txt")
_FORM = re.compile(r"https://[\w.-]+(:\d+)?(/[\w.~-]+)+")
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(\.git)?")
_PARAGRAPH = re.compile(r"^(?:\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n\n)?\*\*On Colab:\*\* .*$", re.MULTILINE)
_README = re.compile(r"(<!-- colab -->\n).*?(<!-- /colab -->)", re.DOTALL)
GPU = "For a GPU, choose *Runtime > Change runtime type* there before you begin; the first cell says what it found."


def address():
    """The course's address, or "" if none is set.

    Raises:
        ValueError: if the file holds something else.
    """
    text = FILE.read_text(encoding="utf-8").strip() if FILE.is_file() else ""
    return checked(text) if text else ""


def checked(text):
    """An address as it was given. ValueError if git could not take it, or it holds anything that is no address."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"{text!r} is no address of a course; give one such as https://github.com/NAME/COURSE")
    return text


def colab_link(place, known):
    """The address at which Colab opens a file of the course; None if the course is not on GitHub.

    Args:
        place: the file's path from the course's folder, with slashes.
        known: the course's address, or "".
    """
    found = _GITHUB.fullmatch(known)
    return f"https://colab.research.google.com/github/{found[1]}/{found[2]}/blob/HEAD/{place}" if found else None


def on_colab(place, known):
    """The paragraph of a notebook that says how it is opened on Colab."""
    link = colab_link(place, known)
    if known:
        badge = f"[![Open in Colab]({'../' * place.count('/')}shared/open_in_colab.svg)]({link})\n\n" if link else ""
        return f"{badge}**On Colab:** open this notebook; its first cell fetches the rest of the course. {GPU}"
    return ("**On Colab:** upload the course's folder first, or give the setup cell the course's git address. If it "
            f"cannot find the course, its message says how. {GPU}")  # fmt: skip


def in_notebook(text, place, known):
    """A Markdown cell's text, with the paragraph on Colab, if it has one, as the address wants it."""
    return _PARAGRAPH.sub(lambda _: on_colab(place, known), text)


def in_readme(text, known):
    """The README's text, with the badges between its two marks."""
    lines = []
    for path in notebooks():
        link = colab_link(path.relative_to(ROOT).as_posix(), known)
        if link and path.stem != "solutions":
            lines.append(f"[![Open {path.stem} in Colab](shared/open_in_colab.svg)]({link}) {path.stem}\n")
    return _README.sub(lambda found: found[1] + "\n".join(lines) + found[2], text)


def main(argv):
    """Returns the exit status."""
    from shared.notebooks import save

    if not argv:
        print(address() or "no address is set: python3 -m shared address https://...")
        return 0
    try:
        known = "" if argv == ["none"] else checked(argv[0])
        if len(argv) > 1:
            raise ValueError("give one address")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        write_file(FILE, f"{known}\n".encode())
        for path in notebooks():
            save(read_notebook(path), path)
        readme = ROOT / "README.md"
        write_file(readme, in_readme(readme.read_text(encoding="utf-8"), known).encode())
    except FileProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"the course's address: {known or 'none'}")
    return 0
