"""Size explorer: where the parameters of a model sit, for a width, a depth and a number of heads."""

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

WIDTH, LEFT = 700, 120  # of the picture, and of the labels, in pixels


def draw_size(counts, lines):
    """The picture: a bar for each part with its share of all parameters, and lines of figures above.

    Args:
        counts: part -> number of parameters.
        lines: sentences to print above.
    """
    total = sum(counts.values()) or 1
    parts = [svg.text(8, 20 + 20 * place, line, weight="bold") for place, line in enumerate(lines)]
    top = 20 + 20 * len(lines)
    for place, (name, count) in enumerate(counts.items()):
        y = top + 30 * place
        bar = (WIDTH - LEFT - 190) * count / total
        parts.append(svg.text(LEFT - 8, y + 16, name, anchor="end"))
        parts.append(svg.rectangle(LEFT, y, bar, 22, svg.COLOURS[place % len(svg.COLOURS)], "#888888"))
        parts.append(svg.text(LEFT + bar + 8, y + 16, f"{count:,} ({100 * count / total:.0f} %)", 12, mono=True))
    return svg.picture(WIDTH, top + 30 * len(counts) + 6, parts)


def describe_size(counts, lines):
    """The picture in words."""
    return "; ".join([*lines, *(f"{name} {count:,}" for name, count in counts.items())])


def size_explorer(measure, widths, heads):
    """Sliders for width, blocks and heads, and the sizes that follow.

    Args:
        measure: (emb_dim, n_layers, n_heads) -> (part -> parameters, lines of text).
        widths, heads: the values that can be chosen. A width that the heads cannot share out is said to be one.
    """
    controls = {
        "emb_dim": ipywidgets.SelectionSlider(options=widths, value=768, description="width"),
        "n_layers": ipywidgets.IntSlider(12, 1, 64, description="blocks"),
        "n_heads": ipywidgets.SelectionSlider(options=heads, value=12, description="heads"),
    }

    def sized(emb_dim, n_layers, n_heads):
        if emb_dim % n_heads:
            return {}, [f"a width of {emb_dim} cannot be shared out among {n_heads} heads"]
        return measure(emb_dim, n_layers, n_heads)

    return Explorer(
        controls,
        draw=lambda **values: draw_size(*sized(**values)),
        describe=lambda **values: describe_size(*sized(**values)),
    )
