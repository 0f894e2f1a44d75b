"""Known figures: what a cell computes is compared with what it gave before, in one short line.

    from shared import figures

    figures.about(data=sms)                          # where the data came from
    figures.match("6.2 split", [1045, 149, 300])     # silent if it fits

The values lie in this folder, a JSON file a chapter. Each is known for a circumstance: the data (``real`` or
``sample``), the pretrained model if one has been named, a GPU if one is used, the scale. In a circumstance for which no
value is known, as on a learner's own data, nothing is compared. ``python3 -m shared figures NOTEBOOK`` runs a notebook
and shows which figures have changed; with ``--write`` it also writes them into the table.

Importing this module imports the standard library only.
"""

import json
import math
import os
from pathlib import Path

from shared.course import FileProblem, scale, short_name

FOLDER = Path(__file__).parent
RECORD = "COURSE_FIGURES_RECORD"  # environment variable: a file to which figures are written instead of compared
COMPARE = "COURSE_FIGURES_COMPARE"  # if it is set too, they are compared as well

_about = {}  # "data", "model" and "device": where the numbers come from
_tables = {}  # chapter -> its table, read once


class FigureDiffers(AssertionError):
    """A figure is not the known one. In a notebook the message is shown without a traceback, which would bury it."""

    def _render_traceback_(self):
        return [f"{type(self).__name__}: {self}"]


def about(data=None, model=None, device=None):
    """Say where the numbers come from; each call changes only what it names.

    Args:
        data: what ``assets.fetch`` returned; or "own" for a learner's own data, with which nothing is compared.
        model: size of the pretrained weights that were loaded, such as "13M".
        device: where is computed from here on. A GPU draws other random numbers and adds in another order, so what
            is trained there has other figures.
    """
    if data is not None:
        _about["data"] = data if isinstance(data, str) else data.kind
    if device is not None:
        kind = getattr(device, "type", device)
        _about.pop("device", None)
        if kind != "cpu":
            _about["device"] = kind
    if model is not None:
        _about["model"] = model


def circumstance():
    """What the figures depend on, as a key of the tables: "real, 13M, full"."""
    return ", ".join([*(_about[name] for name in ("data", "model", "device") if name in _about), scale()])


def match(name, value, within=0.0):
    """Compare a figure with the known one; silent if it fits or none is known.

    Args:
        name: the section and a word on it, such as "6.2 split". The number says which table it stands in.
        value: a number, text, list, dict, tensor, array or table column.
        within: how far each number may lie from the known one. Whole numbers and texts are known exactly where it is 0;
            other numbers always have a relative 1e-4, because machines round differently.

    Raises:
        FigureDiffers: if it does not fit; the message has both values and the usual causes.
        ValueError: if the name does not begin with the number of a section.
    """
    value = plain(value)
    chapter = chapter_of(name)
    if os.environ.get(RECORD) and _about.get("data") != "own":
        with open(os.environ[RECORD], "a", encoding="utf-8") as file:
            file.write(json.dumps([name, circumstance(), value]) + "\n")
        if not os.environ.get(COMPARE):
            return
    known = table(chapter).get(name, {})
    if circumstance() not in known:
        return
    expected = known[circumstance()]
    if not fits(value, expected, within):
        around = f", to within {within}" if within else ""
        raise FigureDiffers(
            f"{name} is {_short(value)}; known is {_short(expected)}{around} ({circumstance()}). If you changed code "
            "above, that is why. If not, the usual causes are cells run in another order (restart the kernel and run "
            "all), another data file, another version of a library (`python3 -m shared doctor` tells), or a GPU"
        )


def plain(value):
    """The value as JSON knows it: numbers, texts, lists and dicts with texts as keys."""
    for convert in ("to_dict", "tolist", "item"):  # pandas, tensors and arrays, single numbers
        if hasattr(value, convert):
            return plain(getattr(value, convert)())
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def fits(value, expected, within):
    """Whether two plain values are the same, numbers to within ``within``."""
    if isinstance(expected, dict):
        same_keys = isinstance(value, dict) and value.keys() == expected.keys()
        return same_keys and all(fits(value[key], expected[key], within) for key in expected)
    if isinstance(expected, list):
        same_length = isinstance(value, list) and len(value) == len(expected)
        return same_length and all(fits(*pair, within) for pair in zip(value, expected))
    numbers = [isinstance(each, (int, float)) and not isinstance(each, bool) for each in (value, expected)]
    if not all(numbers):
        return type(value) is type(expected) and value == expected
    if isinstance(value, int) and isinstance(expected, int):
        return abs(value - expected) <= within
    return math.isclose(value, expected, rel_tol=1e-4, abs_tol=max(within, 1e-9))


def chapter_of(name):
    """The chapter whose table a figure stands in: "6.2 split" -> "ch06", "E.3 counts" -> "appendix_e"."""
    number, dot, rest = name.partition(".")
    if not (dot and rest[:1].isdigit() and (number.isdigit() or (len(number) == 1 and number.isalpha()))):
        raise ValueError(f'a figure\'s name begins with the number of its section, like "6.2 split"; this is {name!r}')
    return short_name(number)


def table(chapter):
    """Known figures of a chapter, {name: {circumstance: value}}; empty if there is no table.

    Raises:
        FileProblem: if the file is damaged.
    """
    if chapter not in _tables:
        path = FOLDER / f"{chapter}.json"
        try:
            _tables[chapter] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            remedy = "restore it with `git checkout -- FILE`"
            raise FileProblem(f"{path} is no table of figures ({error}); {remedy}") from None
    return _tables[chapter]


def _short(value, width=200):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 3] + "..."
