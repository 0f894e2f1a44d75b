"""A plot of the losses that grows while a model trains."""

import math

from IPython.display import HTML, display

from shared.widgets import svg

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 620, 220, 46, 140, 30
COLOURS = {"training": "#3b6fb6", "validation": "#d9822b"}


def draw_losses(tokens_seen, losses):
    """The picture: a line for each loss against the tokens seen.

    Args:
        tokens_seen: list of numbers, rising.
        losses: name -> list of as many losses.
    """
    values = [value for series in losses.values() for value in series if math.isfinite(value)]
    top, right = max([1.0, *values]), max([1, *tokens_seen])

    def place(tokens, loss):
        return LEFT + (WIDTH - LEFT - RIGHT) * tokens / right, 14 + (HEIGHT - BOTTOM - 14) * (1 - loss / top)

    parts = [svg.text(LEFT, HEIGHT - 6, "tokens seen", 11)]
    parts.append(svg.text(WIDTH - RIGHT, HEIGHT - 6, f"{right:,}", 11, anchor="end"))
    for loss in (0, top / 2, top):
        x, y = place(0, loss)
        parts.append(svg.text(x - 6, y + 4, f"{loss:.1f}", 11, anchor="end"))
        parts.append(svg.line([(x, y), (place(right, loss))], "#dddddd"))
    for number, (name, series) in enumerate(losses.items()):
        points = [place(*point) for point in zip(tokens_seen, series) if math.isfinite(point[1])]
        colour = COLOURS.get(name, "#3f8f5f")
        parts.append(svg.line(points, colour, 2))
        latest = f"{series[-1]:.3f}" if series else ""
        parts.append(svg.text(WIDTH - RIGHT + 8, 18 + 16 * number, f"{name} {latest}", 11, colour, weight="bold"))
    return svg.picture(WIDTH, HEIGHT, parts)


def live_losses(on=True):
    """A function to hand to a training loop: ``watch(tokens_seen, train_losses, val_losses)`` draws the plot anew.

    Args:
        on: False gives a function that does nothing.
    """
    if not on:
        return lambda tokens_seen, train_losses, val_losses: None
    handle = None

    def watch(tokens_seen, train_losses, val_losses):
        nonlocal handle
        losses = {"training": train_losses, "validation": val_losses}
        latest = ", ".join(f"{name} {series[-1]:.3f}" for name, series in losses.items() if series)
        picture = HTML(svg.as_image(draw_losses(tokens_seen, losses), f"The losses so far; the latest: {latest}."))
        if handle is None:
            handle = display(picture, display_id=True)
        else:
            handle.update(picture)

    return watch
