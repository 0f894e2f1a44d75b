"""Attention explorer: who attends to whom, for each layer and head, as a table and as arcs."""

from functools import lru_cache

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

MOST_TOKENS = 24  # drawn; attention is causal, so leaving out later tokens changes nothing for the earlier ones
CELL, LEFT, TOP = 24, 96, 64
STEP = 46  # between two words of the arcs


def _short(token, width=10):
    shown = svg.visible(token)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def describe_attention(tokens, weights, query):
    """The strongest weights of one token in words."""
    if not len(tokens):
        return "no tokens"
    query = min(query, len(tokens) - 1)
    row = weights[query][: query + 1]
    best = sorted(range(len(row)), key=lambda key: -row[key])[:3]
    shares = ", ".join(f"{_short(tokens[key])} {row[key]:.2f}" for key in best)
    return f"{_short(tokens[query])} attends most to: {shares}"


def draw_attention(tokens, weights, query):
    """The picture: a table of weights, and below it arcs from one token to those that it attends to.

    Args:
        tokens: list of T strings.
        weights: (T, T) array, row = query, column = key; rows sum to 1.
        query: the token (row) whose arcs are drawn.
    """
    n = min(len(tokens), MOST_TOKENS)
    if not n:
        return svg.picture(400, 40, [svg.text(8, 24, "no tokens")])
    query = min(query, n - 1)
    parts = [svg.text(8, 18, describe_attention(tokens, weights, query), weight="bold")]
    for place in range(n):
        x, y = LEFT + place * CELL + CELL / 2, TOP - 6
        parts.append(
            f'<g transform="rotate(-45 {x:.0f} {y:.0f})">{svg.text(x, y, _short(tokens[place], 6), 10, mono=True)}</g>'
        )
        y, weight = TOP + place * CELL, "bold" if place == query else "normal"
        parts.append(svg.text(LEFT - 6, y + 16, _short(tokens[place]), 11, anchor="end", mono=True, weight=weight))
        for key in range(place + 1):
            shade = f"rgba(59,111,182,{float(weights[place][key]):.3f})"
            parts.append(svg.rectangle(LEFT + key * CELL + 1, y + 1, CELL - 2, CELL - 2, shade, "#dddddd"))
    if len(tokens) > n:
        parts.append(svg.text(LEFT + n * CELL + 8, TOP + 14, f"first {n} of {len(tokens)} tokens", 11, "#555555"))
    outline = svg.rectangle(LEFT - 1, TOP + query * CELL - 1, (query + 1) * CELL + 2, CELL + 2, "none", "#d9822b")
    base = TOP + n * CELL + 20 + 0.75 * (14 + query * 9)
    arcs = []
    for key in range(n):
        x = 30 + key * STEP
        arcs.append(svg.text(x, base + 18, _short(tokens[key], 6), 10, anchor="middle", mono=True))
        if key <= query:
            share, end = float(weights[query][key]), 30 + query * STEP
            height = 14 + abs(query - key) * 9
            path = f"M {end} {base} C {end} {base - height}, {x} {base - height}, {x} {base}"
            arcs.append(
                f'<path d="{path}" fill="none" stroke="#d9822b" stroke-width="{0.5 + 9 * share:.2f}" '
                f'stroke-opacity="{0.25 + 0.75 * share:.2f}"/>'
            )
            arcs.append(svg.text(x, base + 32, f"{share:.2f}", 9, "#555555", "middle"))
    width = max(LEFT + n * CELL + 160 * (len(tokens) > n), 30 + n * STEP) + 20
    return svg.picture(max(width, 420), base + 44, [*parts, outline, *arcs])


def attention_explorer(look, text):
    """A text box, sliders for layer, head and token, and the attention weights they select.

    Args:
        look: text -> (list of T tokens as strings, weights (layers, heads, T, T)); it is called once per
            text, so that moving a slider only draws.
        text: what the box holds at first.
    """
    look = lru_cache(maxsize=8)(look)
    _, weights = look(text)
    if not len(weights):
        raise ValueError("the explorer needs a text with at least one token to begin with")
    n_layers, n_heads = len(weights), len(weights[0])
    controls = {
        "text": ipywidgets.Text(text, description="text", layout=ipywidgets.Layout(width="700px")),
        "layer": ipywidgets.IntSlider(0, 0, n_layers - 1, description="layer"),
        "head": ipywidgets.IntSlider(0, 0, n_heads - 1, description="head"),
        "token": ipywidgets.IntSlider(4, 0, MOST_TOKENS - 1, description="token"),
    }

    def selected(text, layer, head, token):
        tokens, weights = look(text)
        return tokens, weights[layer][head] if tokens else [], min(token, max(0, min(len(tokens), MOST_TOKENS) - 1))

    return Explorer(
        controls,
        draw=lambda **values: draw_attention(*selected(**values)),
        describe=lambda **values: describe_attention(*selected(**values)),
    )
