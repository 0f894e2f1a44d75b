"""``check("2.1", my_function)``: tells a learner whether an exercise is solved, and if not, which claim failed.

A module of this folder holds the checks of one chapter. A check is a function that receives what the
learner wrote and fails a claim in words, by ``claim``, ``same``, ``close`` or ``must_raise``; it never shows
the solution.
"""

import importlib
import inspect
import os
import random
import traceback
from dataclasses import dataclass

import numpy as np
import torch

from shared.course import short_name

_CHECKS = {}
STRICT = "COURSE_WRONG_STOPS"  # environment variable with which the tests run the solutions: a wrong one is an error


class ClaimFailed(Exception):
    """What should hold and does not. An AssertionError would be mistaken for one in the learner's own code."""


@dataclass(frozen=True)
class Verdict:
    """What a check found: ``outcome`` is "right", "wrong" or "not written yet"."""

    name: str
    outcome: str
    detail: str = ""

    def __str__(self):
        if self.outcome == "right":
            return f"Exercise {self.name}: every claim holds."
        if self.outcome == "wrong":
            return f"Exercise {self.name}: not yet. {self.detail}"
        return f"Exercise {self.name}: {self.detail} is not written yet."


def exercise(name):
    """Register the decorated function as the check of exercise ``name``, for example ``"2.1"``."""

    def register(function):
        _CHECKS[name] = function
        return function

    return register


def known_exercises(chapter_module):
    """Names of the exercises that a module of this folder checks, such as ``known_exercises("ch02")``."""
    module = importlib.import_module(f"shared.exercises.{chapter_module}").__name__
    return sorted(name for name, function in _CHECKS.items() if function.__module__ == module)


def _find(name):
    chapter = name.split(".")[0]
    module = short_name(chapter)
    try:
        known = known_exercises(module)
    except ModuleNotFoundError as error:
        if error.name != f"shared.exercises.{module}":
            raise
        known = []
    if name not in known:
        raise ValueError(f"there is no exercise {name!r}; chapter {chapter} has {', '.join(known) or 'none'}")
    return _CHECKS[name]


def _learners_line(error):
    """Where in the learner's own code an exception arose, as " (line 3 of nucleus)"; "" if not there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "shared" not in frame.filename]
    own = [frame for frame in frames if "ipykernel" in frame.filename or "ipython-input" in frame.filename]
    return f" (line {own[-1].lineno} of {own[-1].name})" if own else ""


def judge(name, *attempts):
    """Run the check of exercise ``name`` on what the learner wrote; returns a Verdict, never raises for a wrong answer.

    Raises:
        ValueError: if there is no such exercise.
    """
    if not isinstance(name, str):  # 2.10 as a number is 2.1, another exercise
        raise ValueError(f'the number of an exercise is written in quotes: check("{name}", ...)')
    function = _find(name)
    expected = list(inspect.signature(function).parameters)
    if len(attempts) != len(expected):
        return Verdict(name, "wrong", f"The check takes {', '.join(expected)}, in this order; it got {len(attempts)}.")
    # A learner's function may draw random numbers or fix the seed; the cells after it must not notice.
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    recording = torch.is_grad_enabled()
    try:
        function(*attempts)
    except NotImplementedError as error:
        if str(error) != f"exercise {name}":  # not our stub: something that the learner called
            return Verdict(name, "wrong", f"Your code stopped with NotImplementedError: {error}")
        return Verdict(name, "not written yet", traceback.extract_tb(error.__traceback__)[-1].name)
    except ClaimFailed as error:
        return Verdict(name, "wrong", f"This claim failed: {error}.")
    except Exception as error:
        return Verdict(name, "wrong", f"Your code stopped with {type(error).__name__}{_learners_line(error)}: {error}")
    finally:
        torch.set_grad_enabled(recording)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
    return Verdict(name, "right")


def check(name, *attempts):
    """Print whether exercise ``name`` is solved; a stub is no error, so that Run All goes on.

    Args:
        name: the exercise's number as printed in the notebook, such as ``"2.1"``.
        attempts: what the exercise asks for, most often one function.
    """
    verdict = judge(name, *attempts)
    print(verdict)
    if verdict.outcome == "wrong" and os.environ.get(STRICT):
        raise ClaimFailed(str(verdict))
    if verdict.outcome in ("right", "wrong"):
        from shared.study import progress

        progress.record_exercise(name, verdict.outcome)


def claim(holds, words):
    """Fail the check with a sentence that says what should hold."""
    if not holds:
        raise ClaimFailed(words)


def must_raise(kind, words, function, *args):
    """Fail with ``words`` unless ``function(*args)`` raises an exception of class ``kind``; returns that exception."""
    try:
        function(*args)
    except NotImplementedError:
        raise
    except kind as error:
        return error
    except Exception as error:
        raise ClaimFailed(f"{words}. Yours raised {type(error).__name__}: {error}") from error
    raise ClaimFailed(f"{words}. Yours raised nothing")


def same(got, want, words):
    """Fail with ``words`` and what came instead, unless ``got == want`` (in type of container, too)."""
    if isinstance(got, np.generic):  # a number that NumPy made is a number
        got = got.item()
    if type(got) is not type(want) and not (isinstance(got, (int, float)) and isinstance(want, (int, float))):
        raise ClaimFailed(f"{words}. Yours is a {type(got).__name__}, it should be of type {type(want).__name__}")
    if got != want:
        raise ClaimFailed(f"{words}. Yours gave {_short(got)}")


def close(got, want, words, tolerance=1e-5):
    """Fail with ``words`` unless two tensors agree in shape and, to ``tolerance``, in every value."""
    if not isinstance(got, torch.Tensor):
        raise ClaimFailed(f"{words}. Yours is a {type(got).__name__}, it should be a tensor")
    if got.shape != want.shape:
        raise ClaimFailed(f"{words}. Yours has shape {tuple(got.shape)}, it should have {tuple(want.shape)}")
    if torch.allclose(got.double(), want.double(), rtol=tolerance, atol=tolerance):
        return
    if not want.dtype.is_floating_point:  # of ids, the size of a difference says nothing
        raise ClaimFailed(f"{words}. Your first row is {_short(got.reshape(-1, got.shape[-1])[0].tolist())}")
    raise ClaimFailed(f"{words}. The largest difference is {(got.double() - want.double()).abs().max().item():.4g}")


def _short(value, width=120):
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
