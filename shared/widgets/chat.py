"""A small chat box: a task, an input, and what one of several models answers."""

from html import escape

import ipywidgets

from shared.widgets.explorer import view_bundle
from shared.widgets.keys import box_with_keys

BUBBLE = "white-space: pre-wrap; padding: 6px 10px; margin: 4px 0; border-radius: 8px; max-width: 640px; color: #222222"


def as_html(turns):
    """The conversation as HTML: (who asked what, who answered, with what) triples."""
    parts = []
    for task, who, answer in turns:
        parts.append(f'<div style="{BUBBLE}; background: #dce7f5"><b>you</b><br>{escape(task)}</div>')
        parts.append(f'<div style="{BUBBLE}; background: #ececee; margin-left: 40px"><b>{escape(who)}</b><br>'
                     f"{escape(answer)}</div>")  # fmt: skip
    return "".join(parts)


class ChatBox:
    """Fields for a task and its input, a choice of models, two sliders, and all answers so far; see ``chat_box``."""

    def __init__(self, answers, instruction, given):
        self.answers, self.turns = answers, []
        wide = ipywidgets.Layout(width="640px")
        label = {"description_width": "90px"}
        self.model = ipywidgets.Dropdown(options=list(answers), description="model", style=label)
        self.instruction = ipywidgets.Textarea(instruction, description="instruction", rows=2, layout=wide, style=label)
        self.given = ipywidgets.Text(given, description="input", layout=wide, style=label)
        sliders = {"style": label, "continuous_update": False}
        self.temperature = ipywidgets.FloatSlider(0.0, max=2.0, step=0.1, description="temperature", **sliders)
        self.top_k = ipywidgets.IntSlider(50, min=1, max=200, description="top-k", **sliders)
        self.send = ipywidgets.Button(description="Send")
        self.clear = ipywidgets.Button(description="Clear")
        self.shown = ipywidgets.HTML()
        self.send.on_click(self.ask)
        self.clear.on_click(self.forget)
        buttons = ipywidgets.HBox([self.send, self.clear])
        choices = ipywidgets.HBox([self.temperature, self.top_k])
        self.view = box_with_keys([self.model, self.instruction, self.given, choices, buttons, self.shown])
        self.ask()

    def ask(self, button=None):
        """Let the chosen model answer what stands in the fields. ``button`` is what ipywidgets passes; not used."""
        entry = {"instruction": self.instruction.value, "input": self.given.value.strip()}
        if not entry["instruction"].strip():
            return
        try:
            answer = self.answers[self.model.value](entry, self.temperature.value, self.top_k.value)
        except ValueError as error:  # a task that is too long, for example: told, not raised into the log
            answer = f"[{error}]"
        task = "\n".join(filter(None, entry.values()))
        self.turns.append((task, self.model.value, answer or "[nothing: it ended at once]"))
        self.shown.value = as_html(self.turns)

    def forget(self, button=None):
        """Empty the conversation. ``button`` is what ipywidgets passes; it is not used."""
        self.turns.clear()
        self.shown.value = ""

    def _repr_mimebundle_(self, include=None, exclude=None):
        return view_bundle(self.view, {
            "text/html": as_html(self.turns),
            "text/plain": "\n".join(f"you: {task}\n{who}: {answer}" for task, who, answer in self.turns),
        })  # fmt: skip


def chat_box(answers, instruction, given=""):
    """A box to give tasks to models.

    Args:
        answers: name of a model -> (entry, temperature, top_k) -> its answer, a string; an entry has the keys
            ``instruction`` and ``input``. Each task is answered by itself: the models know nothing of earlier ones.
        instruction, given: what the fields hold, and is asked of the first model, at first.
    """
    return ChatBox(answers, instruction, given)
