"""Sliding-window explorer: which tokens stand in which row of a batch."""

import ipywidgets

from shared.course import count_of
from shared.widgets import svg
from shared.widgets.explorer import Explorer

MOST_PIECES = 40  # drawn at once
CELL, LEFT = 52, 64  # width of a token's column, and of the row labels before them, in pixels


def row_starts(n_tokens, max_length, stride):
    """Where each row begins in a text of ``n_tokens`` tokens; the last row still has a token after it."""
    return list(range(0, n_tokens - max_length, stride))


def batch_rows(n_tokens, max_length, stride, batch_size, batch):
    """Starts of the rows in batch number ``batch``, counted from 0; the last batch may be smaller or absent."""
    return row_starts(n_tokens, max_length, stride)[batch * batch_size : (batch + 1) * batch_size]


def describe_windows(n_tokens, max_length, stride, batch_size, batch):
    """What the settings mean, in one line of numbers."""
    n_rows = len(row_starts(n_tokens, max_length, stride))
    full = n_rows // batch_size
    over = n_rows % batch_size
    left = f" and {count_of(over, 'row')} left over" if over else ""
    if stride < max_length:
        between = f"neighbouring rows share {count_of(max_length - stride, 'token')}"
    elif stride == max_length:
        between = "no token is an input twice"
    else:
        gap = stride - max_length
        between = f"between two rows {count_of(gap, 'token')} {'is' if gap == 1 else 'are'} never an input"
    if not n_rows:
        return f"{n_tokens} tokens: no row, the text is too short for max_length {max_length}"
    rows, batches = count_of(n_rows, "row"), count_of(full, "full batch", "full batches")
    return f"{n_tokens} tokens: {rows}, {batches}{left}; {between}"


def draw_windows(pieces, max_length, stride, batch_size, batch):
    """The picture: the text's tokens on top, below them one line per row of the batch.

    A filled box is an input; the dashed box is the one token that is a target only. Every other target is
    the input to its right.

    Args:
        pieces: the text's tokens as strings, as many as shall be drawn.
    """
    n = len(pieces)
    parts = [svg.text(8, 18, describe_windows(n, max_length, stride, batch_size, batch), weight="bold")]
    for place, piece in enumerate(pieces):
        shown = svg.visible(piece)
        shown = shown if len(shown) <= 7 else shown[:6] + "…"
        parts.append(svg.text(LEFT + place * CELL + CELL / 2, 42, str(place), 10, "#888888", "middle", mono=True))
        parts.append(svg.text(LEFT + place * CELL + CELL / 2, 58, shown, 11, "#222222", "middle", mono=True))
    starts = batch_rows(n, max_length, stride, batch_size, batch)
    for line, start in enumerate(starts):
        y = 72 + 30 * line
        parts.append(svg.text(8, y + 15, f"row {line}", 12, "#555555"))
        for place in range(start, start + max_length):
            box = svg.rectangle(LEFT + place * CELL + 2, y, CELL - 4, 22, svg.COLOURS[line % len(svg.COLOURS)])
            parts.append(box)
        last = LEFT + (start + max_length) * CELL + 2
        parts.append(svg.rectangle(last, y, CELL - 4, 22, "none", "#888888", dashed=True))
    if not starts:
        parts.append(svg.text(8, 87, f"batch {batch} has no rows: the text ends before it", colour="#b8506f"))
    return svg.picture(LEFT + n * CELL + 8, 82 + 30 * max(1, len(starts)), parts)


def window_explorer(pieces, max_length=4, stride=4, batch_size=2):
    """Sliders for the settings of a data loader, and the rows that they give.

    Args:
        pieces: the tokens of a short text as strings; about sixteen fit the page.
    """

    def slider(name, value, low, high):
        return ipywidgets.IntSlider(value, low, high, description=name, continuous_update=True)

    pieces = pieces[:MOST_PIECES]
    most = max(1, len(pieces) - 1)
    controls = {
        "max_length": slider("max_length", max_length, 1, most),
        "stride": slider("stride", stride, 1, most),
        "batch_size": slider("batch_size", batch_size, 1, 6),
        "batch": slider("batch", 0, 0, most),
    }
    return Explorer(
        controls,
        draw=lambda **values: draw_windows(pieces, **values),
        describe=lambda **values: describe_windows(len(pieces), **values),
    )
