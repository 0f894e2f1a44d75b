"""Mask and softmax, step by step, on a small table of scores."""

import math

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

CELL, LEFT, TOP = 70, 70, 60
BEFORE, AFTER = "hide before the softmax", "hide after the softmax"

STEPS = {
    BEFORE: ["the scores", "the future set to −∞", "e to the power of each", "divided by the row's sum"],
    AFTER: [
        "the scores",
        "e to the power of each, divided by the row's sum",
        "the future set to 0",
        "divided by what is left",
    ],
}


def _softmax(row):
    largest = max(row)
    powers = [math.exp(score - largest) for score in row]
    return [power / sum(powers) for power in powers]


def _powers(table):
    return [[math.exp(min(value, 700)) for value in row] for row in table]


def _short(value):
    if value == -math.inf:
        return "−∞"
    return f"{value:.3f}" if not abs(value) >= 1e5 else f"{value:.0e}"


def _is_future(row, column):
    return column > row


def table_at(scores, way, step):
    """The table after ``step`` steps (0 to 3) on one of the two ways; −∞ is ``-math.inf``.

    Args:
        scores: T lists of T numbers, row = query, column = key.
        way: BEFORE or AFTER.
    """
    n = range(len(scores))
    if way == BEFORE:
        masked = [[-math.inf if _is_future(r, c) else scores[r][c] for c in n] for r in n]
        # The last step goes by way of the largest score, so that large scores do not overflow.
        steps = [lambda: scores, lambda: masked, lambda: _powers(masked), lambda: [_softmax(row) for row in masked]]
        return steps[step]()
    weights = [_softmax(row) for row in scores]
    zeroed = [[0.0 if _is_future(r, c) else weights[r][c] for c in n] for r in n]
    renormalised = [[value / sum(row) if sum(row) else math.nan for value in row] for row in zeroed]
    return [scores, weights, zeroed, renormalised][step]


def describe_step(scores, names, way, step):
    """The step in words, with the sum of the first row."""
    first = sum(table_at(scores, way, step)[0])
    total = _short(first)
    return f"{way}, step {step}: {STEPS[way][step]}; the first row sums to {total}"


def draw_step(scores, names, way, step):
    """The picture: the table with its numbers, hidden places marked, and the sum of each row."""
    table, n = table_at(scores, way, step), len(scores)
    parts = [svg.text(8, 20, f"step {step}: {STEPS[way][step]}", weight="bold")]
    parts.append(svg.text(LEFT + n * CELL + 40, TOP - 10, "row sum", 11, "#555555", "middle"))
    largest = max((abs(v) for row in table for v in row if v != -math.inf), default=1.0) or 1.0
    for r, row in enumerate(table):
        y = TOP + r * 30
        parts.append(svg.text(LEFT - 8, y + 19, names[r], 12, anchor="end"))
        parts.append(svg.text(LEFT + r * CELL + CELL / 2, TOP - 10, names[r], 12, anchor="middle"))
        for c, value in enumerate(row):
            gone = value == -math.inf or (step > 0 and _is_future(r, c) and value == 0)
            shade = "#eeeeee" if gone else f"rgba(59,111,182,{0.05 + 0.55 * abs(value) / largest:.3f})"
            parts.append(svg.rectangle(LEFT + c * CELL + 1, y + 1, CELL - 2, 28, shade))
            shown = _short(value)
            middle = LEFT + c * CELL + CELL / 2
            parts.append(svg.text(middle, y + 19, shown, 12, "#999999" if gone else "#222222", "middle", mono=True))
        total = sum(row)
        shown = _short(total)
        colour = "#3f8f5f" if abs(total - 1) < 1e-9 else "#222222"
        parts.append(svg.text(LEFT + n * CELL + 40, y + 19, shown, 12, colour, "middle", mono=True))
    return svg.picture(LEFT + n * CELL + 90, TOP + n * 30 + 10, parts)


def mask_stepper(scores, names):
    """A choice of way, a slider for the step, and the table after it.

    Args:
        scores: T lists of T numbers: attention scores, already divided by the square root of d.
        names: T words for rows and columns.
    """
    controls = {
        "way": ipywidgets.Dropdown(options=[BEFORE, AFTER], description="way"),
        "step": ipywidgets.IntSlider(0, 0, 3, description="step"),
    }
    return Explorer(
        controls,
        draw=lambda way, step: draw_step(scores, names, way, step),
        describe=lambda way, step: describe_step(scores, names, way, step),
    )
