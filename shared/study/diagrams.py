"""The drawings of the questions that ask for labels: a number stands where a label is asked for."""

import base64
import functools
import io
from html import escape

from shared.drawing import BLUE, GREEN, GREY, ORANGE, PALE, ROSE, arrow, box, canvas

DRAWINGS = {}


def drawing(alt):
    """Register the decorated function, which returns a figure, under its name; ``alt`` says what it shows."""

    def register(function):
        DRAWINGS[function.__name__] = (function, alt)
        return function

    return register


@functools.cache
def as_png(name):
    """A drawing as the bytes of a PNG file. Raises ValueError for a name that is none; names those that are."""
    import matplotlib.pyplot as plt

    if name not in DRAWINGS:
        raise ValueError(f"there is no drawing {name!r}; there are {', '.join(sorted(DRAWINGS))}")
    figure = DRAWINGS[name][0]()
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=90, facecolor="white")
    plt.close(figure)
    return raw.getvalue()


def as_image(name):
    """A drawing as an HTML image with its description."""
    data = base64.b64encode(as_png(name)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(DRAWINGS[name][1])}" style="max-width: 100%">'


def _region(axes, x, y, width, height, text, colour, size=10):
    """A large box with its name at the top; (x, y) is its lower left corner."""
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.1",
                                  fc=PALE[colour], ec=colour, lw=1.3, alpha=0.75))  # fmt: skip
    axes.text(x + 0.15, y + height - 0.22, text, size=size, color="#222222", va="center")


@drawing(
    "Nested fields: artificial intelligence holds field 3, which holds deep learning, which holds field "
    "1. Field 2 lies across and covers field 1."
)
def fields_of_ai():
    figure, axes = canvas(6.2, 3.4)
    _region(axes, 0.1, 0.1, 6.0, 3.2, "artificial intelligence", GREY)
    _region(axes, 0.4, 0.25, 4.6, 2.6, "3", ROSE, 13)
    _region(axes, 0.7, 0.4, 3.9, 2.0, "deep learning", BLUE)
    _region(axes, 1.5, 0.55, 4.2, 1.4, "2", GREEN, 13)
    _region(axes, 2.0, 0.7, 1.7, 0.8, "1", ORANGE, 13)
    return figure


@drawing(
    "A transformer for translation: the source text goes into box 1, whose embeddings go into box 2. Box "
    "2 writes box 3, and gets what has been written so far as well."
)
def translation_transformer():
    figure, axes = canvas(6.6, 2.6)
    source = box(axes, 1.0, 0.5, "source text", GREY)
    one = box(axes, 1.0, 1.6, "1", BLUE, size=13)
    vectors = box(axes, 3.3, 1.6, "embeddings", GREY)
    two = box(axes, 5.5, 1.6, "2", BLUE, size=13)
    three = box(axes, 5.5, 2.35, "3", ORANGE, height=0.4, size=13)
    so_far = box(axes, 5.5, 0.5, "translated so far", GREY, width=1.7)
    for pair in ((source, one), (one, vectors), (vectors, two), (two, three), (so_far, two)):
        arrow(axes, *pair)
    return figure


@drawing(
    "Three rounds of writing. In each, a text goes into the model, and a word comes out at 1. An arrow 2 "
    "leads from this word into the text of the next round."
)
def writing_rounds():
    figure, axes = canvas(6.8, 2.5)
    texts, words = ("this", "this is", "this is an"), ("is", "an", "example")
    before = None
    for place, (text, word) in enumerate(zip(texts, words)):
        x = 1.1 + 2.3 * place
        start = box(axes, x, 0.4, text, GREY)
        model = box(axes, x, 1.2, "model", BLUE)
        end = box(axes, x, 2.05, word, ORANGE)
        arrow(axes, start, model)
        arrow(axes, model, end)
        if before:
            arrow(axes, before, start, colour=ORANGE)
        before = end
    for number, x, y in (("1", 0.85, 1.6), ("2", 2.4, 1.45)):
        axes.text(x, y, number, size=14, color=ORANGE, weight="bold")
    return figure


def _chain(names, width=1.45):
    """Boxes in a row joined by arrows; a name that is a number is drawn large."""
    figure, axes = canvas(0.3 + (width + 0.45) * len(names), 0.9)
    before = None
    for place, name in enumerate(names):
        number = name.isdigit()
        here = box(axes, 0.2 + width / 2 + (width + 0.45) * place, 0.45, name, ORANGE if number else GREY, width,
                   size=13 if number else 10)  # fmt: skip
        if before:
            arrow(axes, before, here)
        before = here
    return figure


@drawing(
    "A chain: text, box 1, box 2, token embeddings, model."
)
def text_to_model():
    return _chain(["text", "1", "2", "token\nembeddings", "model"])


@drawing(
    "A chain: text, tokenized text, box 1, token embeddings, model."
)
def missing_stage():
    return _chain(["text", "tokenized\ntext", "1", "token\nembeddings", "model"])


@drawing(
    "Four inputs below, the first of them 1. From each an arrow leads up to one result, 3; the arrow of "
    "the first is labelled 2. The second input is marked as the one that looks."
)
def simple_attention():
    figure, axes = canvas(6.4, 2.6)
    top = box(axes, 3.2, 2.2, "3", ORANGE, size=13)
    names = ("1", "second token\n(looks)", "third token", "fourth token")
    for place, name in enumerate(names):
        bottom = box(axes, 0.9 + 1.55 * place, 0.45, name, BLUE if place == 1 else GREY, 1.4, 0.6,
                     size=13 if place == 0 else 9)  # fmt: skip
        arrow(axes, bottom, top, "2" if place == 0 else "", label_shift=(-0.2, 0.12))
    return figure


@drawing(
    "A square table of attention weights with the same four words at the rows and the columns. The rows "
    "are labelled 1. Cells above the diagonal are empty and labelled 2."
)
def causal_table():
    figure, axes = canvas(4.6, 3.2)
    words = ("your", "journey", "starts", "here")
    weights = ((1.0,), (0.55, 0.45), (0.38, 0.31, 0.31), (0.27, 0.24, 0.24, 0.25))
    for row, word in enumerate(words):
        y = 2.1 - 0.55 * row
        axes.text(1.1, y, word, ha="right", va="center", size=10)
        axes.text(1.5 + 0.75 * row, 2.65, word, ha="center", va="center", size=10)
        for column in range(4):
            seen = column <= row
            text = f"{weights[row][column]:.2f}" if seen else ""
            box(axes, 1.5 + 0.75 * column, y, text, BLUE if seen else GREY, 0.68, 0.46, 9)
    axes.text(0.25, 1.25, "1", size=14, color=ORANGE, weight="bold")
    axes.text(3.0, 1.95, "2", size=14, color=ORANGE, weight="bold")
    return figure


@drawing(
    "A GPT as a stack: box 3 at the bottom, then box 2, then transformer blocks, then box 1 at the top."
)
def gpt_overview():
    figure, axes = canvas(3.0, 3.3)
    before = None
    for place, (name, colour) in enumerate((("3", GREY), ("2", GREEN), ("transformer blocks", BLUE), ("1", ORANGE))):
        here = box(axes, 1.5, 0.45 + 0.8 * place, name, colour, 2.2, size=13 if name.isdigit() else 10)
        if before:
            arrow(axes, before, here)
        before = here
    return figure


@drawing(
    "Two networks of five layers with the mean gradient of each. On the left it falls from 0.0050 in "
    "layer 5 to 0.0002 in layer 1, marked 2. On the right, curved arrows lead around the layers, one "
    "marked 1, and the gradient stays above 0.2 in every layer."
)
def two_networks():
    figure, axes = canvas(6.4, 3.6)
    without = (0.0002, 0.0001, 0.0007, 0.0014, 0.0050)
    with_them = (0.22, 0.21, 0.33, 0.27, 1.33)
    for x, gradients in ((1.7, without), (4.6, with_them)):
        before = None
        for layer, gradient in enumerate(gradients):
            y = 0.35 + 0.68 * layer
            here = box(axes, x, y, f"layer {layer + 1}   {gradient}", BLUE, 1.9, 0.42)
            if before:
                arrow(axes, before, here)
                if gradients is with_them:
                    axes.annotate("", xy=(x + 0.95, y), xytext=(x + 0.95, y - 0.68), arrowprops={
                        "arrowstyle": "-|>", "color": ORANGE, "connectionstyle": "arc3,rad=0.7"})
            before = here
    axes.text(5.98, 1.3, "1", size=14, color=ORANGE, weight="bold")
    axes.text(0.35, 0.28, "2", size=14, color=ORANGE, weight="bold")
    return figure


@drawing(
    "Seven boxes, numbered in the order of the work. From 1 arrows lead over 2, 3 and 4 to the right, "
    "then down to 5, and back to the left over 6 to 7."
)
def stages_of_writing():
    figure, axes = canvas(7.4, 2.3)
    places = [(0.9, 1.8), (2.7, 1.8), (4.6, 1.8), (6.5, 1.8), (6.5, 0.6), (4.6, 0.6), (2.7, 0.6)]
    before = None
    for number, (x, y) in enumerate(places, start=1):
        here = box(axes, x, y, str(number), GREY if number in (1, 7) else BLUE, 1.3, size=13)
        if before:
            arrow(axes, before, here)
        before = here
    return figure


@drawing(
    "Three messages of different lengths. Step 1 turns them into the rows at 2, step 3 into the rows at "
    "4. The longest row is marked 5."
)
def filling_up():
    figure, axes = canvas(7.2, 2.8)
    lengths = (3, 5, 2)
    for row, length in enumerate(lengths):
        y = 2.2 - 0.7 * row
        text = box(axes, 0.75, y, ("See you then", "You have won a prize", "Call me")[row], GREY, 1.35, 0.4, 7)
        for side, x0 in ((0, 2.3), (1, 4.8)):
            for place in range(5):
                filled = place < length
                if filled or side:
                    name, colour = ("", BLUE) if filled else ("pad", ORANGE)
                    cell = box(axes, x0 + 0.33 * place, y, name, colour, 0.3, 0.34, 6)
                    if place == 0 and side == 0:
                        arrow(axes, text, cell)
    for number, x, y in (("1", 1.68, 2.48), ("2", 2.9, 0.25), ("3", 4.2, 1.5), ("4", 5.45, 0.25), ("5", 6.6, 1.45)):
        axes.text(x, y, number, size=14, color=ORANGE, weight="bold")
    axes.annotate("", xy=(4.6, 1.35), xytext=(4.0, 1.35), arrowprops={"arrowstyle": "-|>", "color": GREY})
    return figure
