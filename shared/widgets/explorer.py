"""Controls above a picture that follows them."""

import ipywidgets

from shared.widgets import svg
from shared.widgets.keys import box_with_keys

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def view_bundle(view, texts):
    """What ``_repr_mimebundle_`` returns for an object that is shown as a widget.

    Written out by hand, because the widget's own method has another name in ipywidgets 7 (Colab) than in 8.

    Args:
        view: the widget.
        texts: MIME type -> text for a front end without widgets, which takes the best entry that it knows.
    """
    return {WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}, **texts}


class Explorer:
    """Shows ``draw(**values)`` below controls and draws it again whenever one of them moves.

    Args:
        controls: name -> ipywidgets control; the names are the arguments of ``draw`` and ``describe``.
        draw: values -> SVG picture as text. It must not fail for any setting of the controls.
        describe: values -> the picture in words, for readers who cannot see it. It must not fail either.
    """

    def __init__(self, controls, draw, describe):
        self.controls, self.draw, self.describe = controls, draw, describe
        # The front end cuts longer names off; one width for all, so that the controls stand below each other.
        longest = max(len(control.description) for control in controls.values())
        for control in controls.values():
            control.style.description_width = f"{max(80, 8 * longest + 8)}px"
        self.picture = ipywidgets.HTML()
        self.view = box_with_keys([*controls.values(), self.picture])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def values(self):
        """The controls' present values, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self, change=None):
        """Draw the picture for the present values. ``change`` is what ipywidgets passes; it is not used."""
        values = self.values()
        self.picture.value = svg.described(self.draw(**values), self.describe(**values))

    def _repr_mimebundle_(self, include=None, exclude=None):
        # Written out by hand, because the widget's own method has another name in ipywidgets 7 (Colab) than in 8.
        # A front end without widgets takes the next best entry: the image.
        values = self.values()
        words = self.describe(**values)
        return view_bundle(self.view, {
            "text/html": svg.as_image(self.draw(**values), words),
            "text/plain": words,
        })  # fmt: skip
