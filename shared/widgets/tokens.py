"""Tokenizer explorer: type a text and see its tokens, their ids and their bytes."""

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

WIDTH = 860  # of the picture, in pixels
MOST_TOKENS = 150  # drawn at once; the counts above the picture are for the whole text


def token_rows(text, encode, token_bytes):
    """One entry per token: ``(id, bytes, what to show)``.

    A token that is only a part of a character has no text of its own; its bytes are shown instead.

    Args:
        encode: text -> list of ids.
        token_bytes: id -> bytes.
    """
    rows = []
    for token_id in encode(text):
        raw = token_bytes(token_id)
        try:
            shown = svg.visible(raw.decode("utf-8"))
        except UnicodeDecodeError:
            shown = ""
        if not shown.strip("\u00a0\u200b\u200d\ufeff"):  # part of a character, or one that cannot be seen
            shown = "<" + " ".join(f"{byte:02x}" for byte in raw) + ">"
        rows.append((token_id, raw, shown))
    return rows


def _summary(text, rows):
    n_bytes = len(text.encode("utf-8", errors="replace"))
    per_token = f", {n_bytes / len(rows):.2f} bytes per token" if rows else ""
    return f"{len(text)} characters, {n_bytes} bytes, {len(rows)} tokens{per_token}"


def draw_tokens(text, encode, token_bytes):
    """The picture: each token as a box with its text, its id and its bytes, in reading order."""
    rows = token_rows(text, encode, token_bytes)
    parts = [svg.text(8, 20, _summary(text, rows), weight="bold")]
    x, y, line = 8.0, 34.0, 58
    for place, (token_id, raw, shown) in enumerate(rows[:MOST_TOKENS]):
        hex_bytes = raw.hex(" ") if len(raw) <= 8 else raw[:7].hex(" ") + " ..."
        # Characters outside ASCII are often drawn wider than the font's usual step.
        letters = sum(1 if ord(character) < 0x2E80 else 2 for character in shown)
        width = max(letters * svg.CHARACTER, len(str(token_id)) * 6.7, len(hex_bytes) * 5.5) + 8
        if x + width > WIDTH - 8 and x > 8:
            x, y = 8.0, y + line
        parts.append(svg.rectangle(x, y, width, line - 8, svg.COLOURS[place % len(svg.COLOURS)]))
        parts.append(svg.text(x + 4, y + 16, shown, mono=True))
        parts.append(svg.text(x + 4, y + 31, str(token_id), size=11, colour="#555555", mono=True))
        parts.append(svg.text(x + 4, y + 44, hex_bytes, size=9, colour="#777777", mono=True))
        x += width + 3
    if len(rows) > MOST_TOKENS:
        parts.append(svg.text(8, y + line + 14, f"... and {len(rows) - MOST_TOKENS} more tokens", colour="#555555"))
        y += 22
    return svg.picture(WIDTH, y + line + 2, parts)


def describe_tokens(text, encode, token_bytes):
    """The picture in words: each token's text and id, in reading order."""
    rows = token_rows(text, encode, token_bytes)[:MOST_TOKENS]
    return f"{text!r} as tokens: " + " | ".join(f"{shown} {token_id}" for token_id, _, shown in rows)


def tokenizer_explorer(encode, token_bytes, text):
    """A text box and the tokens of what is in it, drawn anew with every key.

    Args:
        encode: text -> list of ids; it must accept any text, special tokens spelled out included.
        token_bytes: id -> bytes.
        text: what the box holds at first.
    """
    box = ipywidgets.Textarea(value=text, description="text", layout=ipywidgets.Layout(width="860px", height="70px"))
    return Explorer(
        {"text": box},
        draw=lambda text: draw_tokens(text, encode, token_bytes),
        describe=lambda text: describe_tokens(text, encode, token_bytes),
    )
