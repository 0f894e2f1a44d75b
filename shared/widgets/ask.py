"""A box to try prompts in: what you write, and how the model goes on."""

from html import escape

import ipywidgets

from shared.widgets.explorer import view_bundle
from shared.widgets.keys import box_with_keys

BLUE = "var(--jp-content-link-color, #1f5fae)"  # JupyterLab's own, which suits a light and a dark page
STYLE = "white-space: pre-wrap; padding: 4px 8px; margin: 4px 0; border-left: 4px solid"


def as_html(turns):
    """The conversation as HTML: (prompt, answer) pairs, the prompt dark, what the model added in blue."""
    return "".join(
        f'<div style="{STYLE} #3b6fb6">{escape(prompt)}<span style="color: {BLUE}">{escape(answer)}</span></div>'
        for prompt, answer in turns
    )


class AskBox:
    """A prompt, a button, and all answers so far; see ``ask_box``."""

    def __init__(self, answer, prompt):
        self.answer, self.turns = answer, []
        self.prompt = ipywidgets.Textarea(prompt, rows=2, layout=ipywidgets.Layout(width="700px"))
        self.button = ipywidgets.Button(description="Ask")
        self.answers = ipywidgets.HTML()
        self.button.on_click(self.ask)
        self.view = box_with_keys([self.prompt, self.button, self.answers])
        self.ask()

    def ask(self, button=None):
        """Let the model answer what is in the box. ``button`` is what ipywidgets passes; it is not used."""
        prompt = self.prompt.value
        try:
            added = self.answer(prompt)
        except ValueError as error:     # an empty prompt, for example: told, not raised into the log
            added = f" [{error}]"
        self.turns.append((prompt, added))
        self.answers.value = as_html(self.turns)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return view_bundle(self.view, {
            "text/plain": "\n".join(f"{prompt} ->{answer}" for prompt, answer in self.turns),
        })  # fmt: skip


def ask_box(answer, prompt):
    """A box to try prompts in.

    Args:
        answer: prompt -> what the model adds to it, a string.
        prompt: what the box holds, and is asked, at first.
    """
    return AskBox(answer, prompt)
