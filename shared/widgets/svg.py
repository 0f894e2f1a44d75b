"""The few SVG elements that the explorers draw with. Lengths are in pixels."""

import base64
from html import escape

CHARACTER = 7.8  # width of a character of the monospaced font at 13 px
COLOURS = ("#dce7f5", "#fae6d1", "#dbeee2", "#f5dde4", "#ece4f4", "#f3efcf")


def text(x, y, content, size=13, colour="#222222", anchor="start", mono=False, weight="normal"):
    """A line of text whose baseline starts (or, by ``anchor``, is centred or ends) at (x, y)."""
    family = "DejaVu Sans Mono, Menlo, Consolas, monospace" if mono else "DejaVu Sans, Helvetica, Arial, sans-serif"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-family="{family}" font-weight="{weight}" xml:space="preserve">{escape(content)}</text>'
    )


def rectangle(x, y, width, height, fill, stroke="none", dashed=False):
    """A box with its upper left corner at (x, y)."""
    dash = ' stroke-dasharray="3 2"' if dashed else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" '
        f'fill="{fill}" stroke="{stroke}"{dash}/>'
    )


def line(points, colour, width=1):
    """A line through points (x, y)."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def picture(width, height, parts):
    """A whole SVG picture on white ground, so that it can be read on a dark page too."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:100%">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def described(svg, words):
    """The picture with its description, for whoever listens to the page instead of seeing it."""
    words = escape(words.translate(_SHAPELESS).encode("utf-8", "replace").decode(), quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)


def as_image(svg, alt):
    """The picture as an HTML image that needs no scripts and no trust, with its description."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}"/>'


# Control characters have no shape, and most of them may not even stand in an SVG file: Unicode has pictures of them.
_SHAPELESS = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
_VISIBLE = _SHAPELESS | str.maketrans({" ": "·", "\n": "↵", "\t": "⇥"})


def visible(piece):
    """Text in which spaces, line breaks and control characters can be seen."""
    return piece.translate(_VISIBLE)
