"""A box to type a message in, with the probability that it is spam and the words that moved the score."""

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

WIDTH, LINE, SPACE = 700, 26, 8
SPAM, HAM = "217,130,34", "59,111,182"  # orange and blue, as red, green, blue


def layout(words, width=WIDTH):
    """Where each word stands: [(x, line, pixels wide), ...], broken into lines at ``width``."""
    places, x, line = [], SPACE, 0
    for word in words:
        pixels = svg.CHARACTER * len(word)
        if x > SPACE and x + pixels > width - SPACE:
            x, line = SPACE, line + 1
        places.append((x, line, min(pixels, width - 2 * SPACE)))
        x += pixels + svg.CHARACTER
    return places


def draw_message(probability, words):
    """The picture: a bar for the probability, and below it the words, shaded by how much the score falls without them.

    Args:
        probability: of spam, from 0 to 1; None if there is no text.
        words: [(word, change), ...]; above 0 speaks for spam.
    """
    if probability is None:
        return svg.picture(WIDTH, 40, [svg.text(SPACE, 24, "write something")])
    label = "spam" if probability >= 0.5 else "not spam"
    bar = WIDTH - 220
    parts = [
        svg.text(SPACE, 24, f"{label}, probability {probability:.3f}", weight="bold"),
        svg.rectangle(210, 10, bar, 18, "#eeeeee"),
        svg.rectangle(210, 10, bar * probability, 18, f"rgb({SPAM})"),
        svg.line([(210 + bar / 2, 6), (210 + bar / 2, 32)], "#555555"),
    ]
    largest = max([1e-9, *(abs(change) for _, change in words)])
    places = layout([word for word, _ in words])
    for (word, change), (x, line, pixels) in zip(words, places):
        y = 48 + LINE * line
        shade = f"rgba({SPAM if change > 0 else HAM},{0.75 * abs(change) / largest:.3f})"
        parts.append(svg.rectangle(x - 2, y, pixels + 4, 20, shade))
        # Half a surrogate pair, which a paste may leave, can be shown by nobody.
        shown = svg.visible(word).encode("utf-8", "replace").decode()
        shown = shown if svg.CHARACTER * len(shown) <= WIDTH - 2 * SPACE else shown[:80] + "…"
        parts.append(svg.text(x, y + 15, shown, mono=True))
    lines = 1 + max((line for _, line, _ in places), default=0)
    y = 48 + LINE * lines + 16
    parts.append(svg.text(SPACE, y, "orange speaks for spam, blue for ham", 11, "#555555"))
    return svg.picture(WIDTH, y + 10, parts)


def describe_message(probability, words):
    """The picture in words."""
    if probability is None:
        return "write something"
    strongest = sorted(words, key=lambda part: -abs(part[1]))[:3]
    moved = ", ".join(f"{word} {change:+.2f}" for word, change in strongest)
    return f"{'spam' if probability >= 0.5 else 'not spam'}, probability {probability:.3f}; words: {moved}"


def message_box(verdict, text):
    """A text box, and below it the verdict on what stands in it.

    Args:
        verdict: text -> (probability of spam, [(word, change of the score), ...]); it is not asked about empty texts.
        text: what the box holds at first.
    """
    controls = {
        "text": ipywidgets.Textarea(text, description="message", rows=2, layout=ipywidgets.Layout(width="700px"))
    }

    def judged(text):
        return verdict(text) if text.strip() else (None, [])

    return Explorer(
        controls,
        draw=lambda text: draw_message(*judged(text)),
        describe=lambda text: describe_message(*judged(text)),
    )
