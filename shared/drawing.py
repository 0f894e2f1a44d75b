"""Figures for the notebooks: showing one with a description, and boxes joined by arrows.

Plots of numbers stand in the notebooks themselves; here is only what would take more lines than it teaches.
"""

import base64
import io

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.patches import FancyBboxPatch
from PIL import Image

# One set of colours for all chapters; distinguishable with the common forms of colour blindness.
BLUE, ORANGE, GREEN, ROSE, GREY = "#3b6fb6", "#d9822b", "#3f8f5f", "#b8506f", "#6b6f76"
PALE = {BLUE: "#dce7f5", ORANGE: "#fae6d1", GREEN: "#dbeee2", ROSE: "#f5dde4", GREY: "#ececee"}


def show(figure, alt):
    """Display a figure once, with a description for readers who cannot see it.

    Args:
        figure: a matplotlib figure; it is closed afterwards.
        alt: what the picture shows, in a sentence or two.

    Raises:
        ValueError: if the description is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs a description: show(figure, alt='what it shows')")
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=90, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    # Few colours make a small file: the figures are stored in the notebooks, and come with every download.
    small = io.BytesIO()
    Image.open(raw).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    data = {"image/png": base64.b64encode(small.getvalue()).decode(), "text/plain": f"[figure: {alt}]"}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def canvas(width, height):
    """A figure of ``width`` x ``height`` inches and axes without frame whose unit is one inch."""
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    return figure, axes


def box(axes, x, y, text, colour=BLUE, width=1.5, height=0.5, size=10, **font):
    """Draw a labelled box centred at (x, y), in inches; returns (x, y, width, height) for ``arrow``."""
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", fc=PALE[colour], ec=colour, lw=1.3
        )
    )
    axes.text(x, y, text, ha="center", va="center", size=size, color="#222222", **font)
    return x, y, width, height


def arrow(axes, start, end, label="", bend=0.0, colour=GREY, label_shift=(0, 0.14)):
    """Draw an arrow between two boxes (as returned by ``box``), from edge to facing edge.

    Args:
        bend: how far the arrow bows to its side, as a share of its length; 0 is straight.
        label_shift: where the label's middle stands, in inches from the arrow's middle.
    """
    (x0, y0, w0, h0), (x1, y1, w1, h1) = start, end
    if abs(x1 - x0) - (w0 + w1) / 2 >= abs(y1 - y0) - (h0 + h1) / 2:  # side by side: leave and enter at the sides
        side = 1 if x1 > x0 else -1
        a, b = (x0 + side * w0 / 2, y0), (x1 - side * w1 / 2, y1)
    else:
        side = 1 if y1 > y0 else -1
        a, b = (x0, y0 + side * h0 / 2), (x1, y1 - side * h1 / 2)
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 2, "shrinkB": 2}
    axes.annotate("", xy=b, xytext=a, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"})
    if label:
        middle = ((a[0] + b[0]) / 2 + label_shift[0], (a[1] + b[1]) / 2 + label_shift[1])
        axes.text(*middle, label, ha="center", va="center", size=9, color=colour)


def heat_map(axes, values, row_labels, column_labels, decimals=2, size=9):
    """Draw a small matrix as coloured squares with the numbers in them, white at 0.

    Args:
        values: (R, C) array of numbers.
    """
    limit = max(abs(float(values.min())), abs(float(values.max())), 1e-9)
    axes.imshow(values, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit, aspect="auto")
    for row in range(len(values)):
        for column in range(len(values[row])):
            axes.text(column, row, f"{float(values[row][column]):.{decimals}f}", ha="center", va="center", size=size)
    axes.set_xticks(range(len(column_labels)), column_labels)
    axes.set_yticks(range(len(row_labels)), row_labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_stack(rows, repeat, shortcuts=()):
    """Draw the parts of a model from bottom to top, joined by arrows, each with the shape that leaves it.

    Args:
        rows: (name, shape, number of parameters), in the order in which the parts run. The first two are embeddings
            that are added; names that begin with "block: " belong to the repeated block.
        repeat: how many such blocks there are.
        shortcuts: (name of the part before which a shortcut leaves, which of the parts of that name); it is
            added again after the next part whose name has "shortcut" in it.

    Returns:
        A matplotlib figure.
    """
    step, tall, middle, aside = 0.56, 0.32, 2.9, 1.62
    heights = [0.9, 0.9] + [0.9 + step * place for place in range(1, len(rows) - 1)]
    top = heights[-1] + 0.62
    figure, axes = canvas(8.2, top)

    def line(*points, colour=GREY):
        """A line through points, with an arrow at its end."""
        axes.plot(*zip(*points[:-1]), color=colour, lw=1.3)
        head = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=head)

    def plus(y, colour):
        axes.text(middle, y, "+", color=colour, size=9, ha="center", va="center", zorder=5,
                  bbox={"boxstyle": "circle,pad=0.1", "fc": "white", "ec": colour})  # fmt: skip

    inside = [place for place, (name, _, _) in enumerate(rows) if name.startswith("block: ")]
    low, high = heights[inside[0]] - 0.5 * step, heights[inside[-1]] + 0.62 * step
    axes.add_patch(
        FancyBboxPatch(
            (middle - 1.8, low), 3.3, high - low, boxstyle="round,pad=0", fc="#f7f8fa", ec=GREY, ls="--", zorder=0
        )
    )
    axes.text(middle - 1.95, (low + high) / 2, f"× {repeat}", ha="right", va="center", size=12, color=GREY)
    # From the inputs to the first sum, and from part to part.
    for x, label in ((middle - 0.75, "token ids"), (middle + 0.75, "positions")):
        axes.text(x, 0.22, label, ha="center", size=9, color=GREY)
        line((x, 0.42), (x, heights[0] - tall / 2))
        line((x, heights[0] + tall / 2), (x, heights[0] + step / 2), (middle + (0.1 if x > middle else -0.1),
                                                                    heights[0] + step / 2))  # fmt: skip
    line((middle, heights[0] + step / 2), (middle, heights[2] - tall / 2))
    for lower, upper in zip(heights[2:], [*heights[3:], top - 0.2]):
        line((middle, lower + tall / 2), (middle, upper - (tall / 2 if upper < top - 0.2 else 0)))
    plus(heights[0] + step / 2, GREY)
    for name, which in shortcuts:
        first = [place for place, row in enumerate(rows) if row[0] == name][which]
        last = next(place for place in range(first, len(rows)) if "shortcut" in rows[place][0])
        below, above = heights[first] - step / 2 + 0.06, heights[last] + step / 2
        corner = middle - aside
        line((middle, below), (corner, below), (corner, above), (middle - 0.1, above), colour=GREEN)
        plus(above, GREEN)
    for place, (name, _, _) in enumerate(rows):
        colour = ORANGE if "emb" in name else GREEN if "norm" in name else GREY if "drop" in name else BLUE
        x, wide = (middle + (-0.75, 0.75)[place], 1.3) if place < 2 else (middle, 2.2)
        box(axes, x, heights[place], name.removeprefix("block: "), colour, width=wide, height=tall)
    together = [(" and ".join(str(shape) for _, shape, _ in rows[:2]), " + ".join(f"{n:,}" for _, _, n in rows[:2]))]
    for y, (shape, count) in zip(heights[1:], together + [(str(s), f"{n:,}" if n else "") for _, s, n in rows[2:]]):
        axes.text(middle + 1.7, y, shape, va="center", size=9, family="monospace")
        axes.text(8.1, y, count, ha="right", va="center", size=9, color=GREY)
    axes.text(middle, top - 0.13, "logits", ha="center", size=10, color=GREY)
    axes.text(middle + 1.7, top - 0.13, "shape that leaves the part", size=9, color=GREY)
    axes.text(8.1, top - 0.13, "parameters", ha="right", size=9, color=GREY)
    return figure


def draw_token_rows(steps, width=7.6):
    """Draw rows of tokens as boxes coloured by what they are, one block of rows a step.

    Args:
        steps: title -> rows; a row is a list of (text, kind). Kinds are "token" (blue), "end" (orange) and "ignored"
            (grey). A row that is too long for a line goes on in the next.

    Returns:
        A matplotlib figure.
    """
    colours, letter, line, gap = {"token": BLUE, "end": ORANGE, "ignored": GREY}, 0.075, 0.24, 0.05
    placed, y = [], 0.1
    for title, rows in steps.items():
        if title:
            placed.append((0.1, y + 0.1, title, None, 0))
            y += line
        for row in rows:
            x = 0.1
            for text, kind in row:
                size = letter * max(len(text), 1) + 0.12
                if x + size > width - 0.1 and x > 0.1:
                    x, y = 0.1, y + line
                placed.append((x + size / 2, y + 0.1, text, colours[kind], size))
                x += size + gap
            y += line + gap
        y += 0.12
    figure, axes = canvas(width, y)
    for x, down, text, colour, size in placed:
        if colour is None:
            axes.text(x, y - down, text, ha="left", va="center", size=9, color="#222222")
        else:
            box(axes, x, y - down, text, colour, size, 0.2, 8, family="monospace", parse_math=False)
    return figure
