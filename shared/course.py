"""Where the course lies, which chapters there are, and in which order they are read."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A chapter's folder -> the chapters whose code it builds on, in reading order.
_MAIN = (
    "ch02_text_data",
    "ch03_attention",
    "ch04_gpt_model",
    "ch05_pretraining",
    "ch06_classification",
    "ch07_instruction",
)
BUILDS_ON = {chapter: _MAIN[:place] for place, chapter in enumerate(_MAIN)}
BUILDS_ON["appendix_d_training_loop"] = _MAIN[:4]
BUILDS_ON["appendix_e_lora"] = _MAIN[:5]


def chapters(root=ROOT):
    """Names of the chapter folders that exist under ``root``, in reading order."""
    return [name for name in BUILDS_ON if (root / name).is_dir()]


def chapter_notebook(chapter, root=ROOT):
    """Path of a chapter's narrative notebook: ``ch02_text_data`` -> ``ch02_text_data/ch02.ipynb``.

    Raises:
        ValueError: if ``chapter`` is not the name of a chapter folder.
    """
    if chapter not in BUILDS_ON:
        raise ValueError(f"{chapter!r} is no chapter; the chapters are {', '.join(BUILDS_ON)}")
    parts = chapter.split("_")
    stem = "_".join(parts[:2]) if parts[0] == "appendix" else parts[0]
    return root / chapter / f"{stem}.ipynb"


def notebooks(root=ROOT):
    """Paths of all notebooks of the course: each chapter's own and its solutions, in reading order."""
    paths = []
    for chapter in chapters(root):
        main = chapter_notebook(chapter, root)
        rest = sorted(p for p in (root / chapter).glob("*.ipynb") if p != main)
        paths += [p for p in [main, *rest] if p.is_file()]
    return paths


def scale():
    """``"full"`` (the real chapter) or ``"small"`` (the same code on less work), from COURSE_SCALE.

    Raises:
        ValueError: if COURSE_SCALE holds anything else.
    """
    value = os.environ.get("COURSE_SCALE") or "full"
    if value not in ("full", "small"):
        raise ValueError(f"COURSE_SCALE is {value!r}; it must be 'full' or 'small' (or unset, which is 'full')")
    return value


def pick(*, full, small):
    """The value for the scale in force: ``epochs = pick(full=10, small=1)``."""
    return full if scale() == "full" else small
