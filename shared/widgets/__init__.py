"""The interactive parts of the notebooks.

Every explorer is a pure function that draws an SVG picture from plain values, and a few controls that call
it. Where no front end shows widgets (a stored notebook, a test, a page on the web), the same cell shows the
picture for the starting values.
"""

from shared.widgets.ask import ask_box
from shared.widgets.attention import attention_explorer
from shared.widgets.chat import chat_box
from shared.widgets.explorer import Explorer
from shared.widgets.live import live_losses
from shared.widgets.lora import lora_explorer
from shared.widgets.masking import mask_stepper
from shared.widgets.message import message_box
from shared.widgets.sampling import sampling_explorer
from shared.widgets.schedule import schedule_explorer
from shared.widgets.size import size_explorer
from shared.widgets.tokens import tokenizer_explorer
from shared.widgets.windows import window_explorer

__all__ = [
    "Explorer",
    "ask_box",
    "attention_explorer",
    "chat_box",
    "live_losses",
    "lora_explorer",
    "mask_stepper",
    "message_box",
    "sampling_explorer",
    "schedule_explorer",
    "size_explorer",
    "tokenizer_explorer",
    "window_explorer",
]
