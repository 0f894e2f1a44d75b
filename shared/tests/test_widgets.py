"""The explorers: pure drawing functions, what happens when a control moves, and what shows without a front end."""

import base64
import math
import re
import xml.etree.ElementTree as ET

import pytest
import torch

from shared.widgets import (
    ask_box,
    attention_explorer,
    chat_box,
    live_losses,
    lora_explorer,
    mask_stepper,
    message_box,
    sampling_explorer,
    size_explorer,
    svg,
    tokenizer_explorer,
    window_explorer,
)
from shared.widgets.attention import MOST_TOKENS as MOST_ATTENDED
from shared.widgets.attention import draw_attention
from shared.widgets.live import draw_losses
from shared.widgets.lora import LAYERS, lora_costs
from shared.widgets.masking import AFTER, BEFORE, draw_step, table_at
from shared.widgets.message import WIDTH as MESSAGE_WIDTH
from shared.widgets.message import draw_message, layout
from shared.widgets.sampling import broken_lines, summarize
from shared.widgets.tokens import MOST_TOKENS, draw_tokens, token_rows
from shared.widgets.windows import batch_rows, describe_windows, draw_windows, row_starts


@pytest.fixture(scope="module")
def tools(gpt2):
    return (lambda text: gpt2.encode(text, disallowed_special=())), gpt2.decode_single_token_bytes


def texts_of(picture):
    """All text in an SVG picture; fails if it is not well-formed."""
    return [node.text or "" for node in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


ODD_TEXTS = ["", " ", "\n\n\n", "<b>&amp;\"'</b>", "<|endoftext|>", "🤗👨‍👩‍👧", "猫" * 50, "x" * 3_000]
ODD_TEXTS += ["a\x00b\x1fc", "é\u0301", "\ud800", "\uffff"]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_can_be_drawn(tools, text):
    picture = draw_tokens(text, *tools)
    shown = texts_of(picture)
    assert f"{len(text)} characters" in shown[0] and f"{len(tools[0](text))} tokens" in shown[0]


def test_each_token_shows_text_id_and_bytes(tools):
    assert token_rows("Akwirw ier", *tools)[4] == (220, b" ", "·")
    assert [row[2] for row in token_rows("🤗", *tools)] == ["<f0 9f>", "<a4>", "<97>"]
    shown = texts_of(draw_tokens("Akwirw ier", *tools))
    assert {"Ak", "33901", "41 6b", "·", "220", "20", "ier"} <= set(shown)


def test_long_texts_are_cut_in_the_picture_not_in_the_count(tools):
    text = "one two " * 400
    shown = texts_of(draw_tokens(text, *tools))
    n = len(tools[0](text))
    assert f"{n} tokens" in shown[0] and shown[-1] == f"... and {n - MOST_TOKENS} more tokens"


def test_boxes_stay_inside_the_picture(tools):
    root = ET.fromstring(draw_tokens("A longer line of text, to be broken into several rows. " * 4, *tools))
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("rx")]
    assert len(boxes) > 40
    for r in boxes:
        assert float(r.get("x")) + float(r.get("width")) <= width
        assert float(r.get("y")) + float(r.get("height")) <= height


def test_rows_are_those_of_the_data_set(ch02, gpt2):
    """The picture tells the truth about GPTDatasetV1, which it does not import."""
    ids = list(range(14))

    class Numbers:
        def encode(self, text, allowed_special=()):
            return ids

    for length in (1, 4, 13):
        for stride in (1, 3, 4, 13):
            dataset = ch02.GPTDatasetV1("", Numbers(), length, stride)
            assert row_starts(14, length, stride) == [x[0].item() for x, _ in dataset]
    assert row_starts(4, 4, 1) == [] and batch_rows(14, 4, 4, 2, 1) == [8] and batch_rows(14, 4, 4, 2, 5) == []


def test_the_settings_in_words():
    assert describe_windows(14, 4, 2, 3, 0) == (
        "14 tokens: 5 rows, 1 full batch and 2 rows left over; neighbouring rows share 2 tokens"
    )
    assert "no token is an input twice" in describe_windows(14, 4, 4, 1, 0)
    assert "between two rows 3 tokens are never an input" in describe_windows(14, 4, 7, 1, 0)


def test_a_text_without_a_row_is_said_to_be_too_short():
    assert describe_windows(4, 4, 1, 1, 0) == "4 tokens: no row, the text is too short for max_length 4"
    assert len(window_explorer([" x"] * 10_000).picture.value) < 20_000


def test_characters_that_cannot_be_seen_show_their_bytes(tools):
    for text, want in [("\u00a0", "<c2 a0>"), ("\u200b", "<e2 80 8b>"), ("\u200d", "<e2 80 8d>")]:
        shown = "".join(row[2] for row in token_rows(text, *tools))
        assert shown.replace("><", " ") == want


def test_inputs_and_last_target_are_drawn_where_they_stand():
    pieces = [f"t{i}" for i in range(12)]
    root = ET.fromstring(draw_windows(pieces, max_length=3, stride=2, batch_size=2, batch=0))
    boxes = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("rx")]
    columns = [round((float(r.get("x")) - 66) / 52) for r in boxes]
    assert columns == [0, 1, 2, 3, 2, 3, 4, 5]
    assert [bool(r.get("stroke-dasharray")) for r in boxes] == [False] * 3 + [True] + [False] * 3 + [True]


def test_every_setting_of_the_sliders_can_be_drawn():
    pieces = ["a", " b", "\n", "🤗", " longer word", "e", "f"]
    explorer = window_explorer(pieces)
    ranges = [range(c.min, c.max + 1) for c in explorer.controls.values()]
    assert math.prod(map(len, ranges)) > 500
    for length in ranges[0]:
        for stride in ranges[1]:
            for batch in ranges[3]:
                texts_of(draw_windows(pieces, length, stride, 2, batch))


def test_moving_a_control_draws_again(tools):
    explorer = window_explorer([f"t{i}" for i in range(12)], max_length=4, stride=4)
    before = explorer.picture.value
    explorer.controls["stride"].value = 2
    assert explorer.picture.value != before and "share 2 tokens" in explorer.picture.value
    typed = tokenizer_explorer(*tools, text="one")
    typed.controls["text"].value = "one two"
    assert "2 tokens" in typed.picture.value


def test_without_a_front_end_the_cell_shows_the_picture(tools):
    explorer = tokenizer_explorer(*tools, text="Akwirw ier")
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.view.model_id
    image = re.fullmatch(r'<img alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)"/>', bundle["text/html"])
    assert "Ak 33901" in image[1]
    drawn = base64.b64decode(image[2]).decode()
    assert drawn == explorer.draw(**explorer.values())
    # The same picture, with its description, while the notebook is running.
    assert explorer.picture.value.replace(f' role="img" aria-label="{image[1]}"', "") == drawn
    assert bundle["text/plain"].startswith("'Akwirw ier' as tokens: Ak 33901 | w 86")


def test_white_space_is_made_visible():
    assert svg.visible(" a\n\tb\r\x00\x7f") == "·a↵⇥b␍␀␡"


# Attention -----------------------------------------------------------------------------------------------


def causal_weights(n, seed=0):
    import torch

    scores = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf), dim=-1).numpy()


@pytest.mark.parametrize("tokens", [[], ["one"], [" a", "\n", "<b>", "🤗", "\x00"], [f"t{i}" for i in range(60)]])
def test_attention_of_any_text_can_be_drawn(tokens):
    n = len(tokens)
    for query in (0, n // 2, n + 5):
        shown = texts_of(draw_attention(tokens, causal_weights(n), query))
        assert shown[0].startswith("no tokens" if not n else svg.visible(tokens[min(query, n - 1, MOST_ATTENDED - 1)]))


def test_the_shares_below_the_arcs_are_the_weights_of_the_row():
    weights = causal_weights(5)
    shown = texts_of(draw_attention(list("abcde"), weights, 3))
    assert [f"{share:.2f}" for share in weights[3][:4]] == [text for text in shown if re.fullmatch(r"0\.\d\d", text)]


def test_sliders_select_layer_and_head_and_only_a_new_text_is_computed():
    calls = []

    def look(text):
        calls.append(text)
        n = len(text.split())
        return text.split(), [[causal_weights(n, seed=10 * layer + head) for head in range(3)] for layer in range(2)]

    explorer = attention_explorer(look, "one two three four five six")
    pictures = {explorer.picture.value}
    for layer, head in [(0, 1), (1, 1), (1, 2)]:
        explorer.controls["layer"].value, explorer.controls["head"].value = layer, head
        pictures.add(explorer.picture.value)
    assert len(pictures) == 4 and calls == ["one two three four five six"]
    explorer.controls["text"].value = "two words"
    assert calls[1:] == ["two words"] and "two words" not in explorer.picture.value
    assert texts_of(explorer.picture.value)[0].startswith("words attends most to")


SCORES = [[0.5, -0.2, 0.1], [0.0, 0.3, 2.0], [800.0, -1.0, 0.4]]


def test_both_ways_of_hiding_end_in_the_same_table():
    for before, after in zip(table_at(SCORES, BEFORE, 3), table_at(SCORES, AFTER, 3)):
        assert before == pytest.approx(after) and sum(before) == pytest.approx(1)
    assert table_at(SCORES, BEFORE, 0) == table_at(SCORES, AFTER, 0) == SCORES
    assert table_at(SCORES, BEFORE, 1)[0] == [0.5, -math.inf, -math.inf]
    assert sum(table_at(SCORES, AFTER, 1)[0]) == pytest.approx(1) and sum(table_at(SCORES, AFTER, 2)[0]) < 0.9


def test_every_step_can_be_drawn():
    scores = SCORES[:2] + [[0.1, 0.2, 0.3]]
    explorer = mask_stepper(scores, ["the", "tide", "comes"])
    seen = set()
    for way in (BEFORE, AFTER):
        for step in range(4):
            explorer.controls["way"].value, explorer.controls["step"].value = way, step
            shown = texts_of(explorer.picture.value)
            assert shown[0].startswith(f"step {step}: ")
            assert shown == texts_of(draw_step(scores, ["the", "tide", "comes"], way, step))
            seen.add(draw_step(scores, ["the", "tide", "comes"], way, step))
    assert len(seen) == 8 - 1  # step 0 is the same on both ways
    assert "the first row sums to −∞" in explorer.describe(way=BEFORE, step=1)


# Size ----------------------------------------------------------------------------------------------------


def test_size_explorer_shows_the_measured_counts_and_refuses_widths_that_do_not_fit():
    def measure(emb_dim, n_layers, n_heads):
        return {"embeddings": 100 * emb_dim, "attention": 4 * n_layers * emb_dim**2}, [f"{n_heads} heads"]

    explorer = size_explorer(measure, widths=[96, 192, 768], heads=[5, 12])
    shown = texts_of(explorer.picture.value)
    assert shown[0] == "12 heads" and "76,800 (0 %)" in shown and "28,311,552 (100 %)" in shown
    explorer.controls["n_heads"].value = 5
    assert texts_of(explorer.picture.value) == ["a width of 768 cannot be shared out among 5 heads"]
    assert "cannot be shared out" in explorer.describe(**explorer.values())


# Sampling explorer ---------------------------------------------------------------------------------------


class Sampler:
    """A model of 40 tokens that counts how often it is asked, and the chapter's stages."""

    def __init__(self, ch05):
        self.ch05, self.read_calls, self.written = ch05, 0, []

    def read(self, text):
        self.read_calls += 1
        if not text:
            raise ValueError("an empty prompt")
        return torch.randn(40, generator=torch.Generator().manual_seed(len(text)))

    def stages(self, logits, temperature, top_k, top_p):
        kept = logits if top_k is None else self.ch05.keep_top_k(logits, top_k)
        scaled = self.ch05.softmax_with_temperature(kept, temperature or 1e-3)
        return {"model": logits.softmax(dim=-1), "top-p": self.ch05.keep_top_p(scaled, top_p)}

    def write(self, text, temperature, top_k, top_p, seed):
        if not text:
            raise ValueError("an empty prompt")
        self.written.append((text, temperature, top_k, top_p, seed))
        return f"{text} goes on ({seed})"

    def explorer(self, prompt="Hello"):
        return sampling_explorer(self.read, self.stages, self.write, lambda ids: f"<t{ids[0]}>", prompt)


def test_a_slider_asks_the_model_no_second_time(ch05):
    sampler = Sampler(ch05)
    explorer = sampler.explorer()
    asked, writings = sampler.read_calls, len(sampler.written)
    assert asked == 1 and writings == 1
    for name, value in (("temperature", 0.0), ("temperature", 5.0), ("top_k", 1), ("top_k", 0), ("top_p", 0.05)):
        before = explorer.picture.value
        explorer.controls[name].value = value
        assert explorer.picture.value != before
    assert sampler.read_calls == asked and len(sampler.written) == writings
    explorer.controls["text"].value = "Another prompt"
    assert sampler.read_calls == asked + 1


def test_what_is_shown_is_what_is_left(ch05):
    sampler = Sampler(ch05)
    explorer = sampler.explorer()
    explorer.controls["top_k"].value, explorer.controls["top_p"].value = 3, 1.0
    words = texts_of(explorer.picture.value)
    assert "40 possible" in words and "3 possible" in words
    logits = sampler.read("Hello")
    assert f"<t{logits.argmax().item()}>" in words
    kept = logits.topk(3).values.softmax(dim=-1)
    entropy = -(kept * kept.log()).sum().item()
    assert f"entropy {entropy:.2f} nats" in words and f"{kept[0].item():.3f}" in words
    assert words.count("0") == 9      # of 12 tokens with a bar, nine are out


def test_the_button_writes_and_a_slider_marks_the_text_as_old(ch05):
    sampler = Sampler(ch05)
    explorer = sampler.explorer()
    assert "Hello goes on (123)" in texts_of(explorer.picture.value)
    explorer.controls["seed"].value = 7
    assert any("press the button" in text for text in texts_of(explorer.picture.value))
    explorer.button.click()
    assert "Hello goes on (7)" in texts_of(explorer.picture.value)
    assert sampler.written[-1] == ("Hello", 1.0, 25, 0.9, 7)
    assert "written: Hello goes on (7)" in explorer._repr_mimebundle_()["text/plain"]


def test_an_empty_prompt_is_said_not_raised(ch05):
    explorer = Sampler(ch05).explorer()
    explorer.controls["text"].value = ""
    assert texts_of(explorer.picture.value) == ["an empty prompt"]
    explorer.button.click()
    assert explorer._repr_mimebundle_()["text/plain"] == "an empty prompt"


def test_the_top_k_slider_reaches_all(ch05):
    sampler = Sampler(ch05)
    explorer = sampler.explorer()
    explorer.controls["top_k"].index = len(explorer.controls["top_k"].options) - 1      # as a front end moves it
    explorer.controls["top_p"].value = 1.0
    explorer.button.click()
    assert sampler.written[-1][2] is None and texts_of(explorer.picture.value).count("40 possible") == 2


def test_odd_texts_and_odd_logits(ch05):
    sampler = Sampler(ch05)
    explorer = sampler.explorer("a\x00b\x1b  c")
    assert any("␀" in text for text in texts_of(explorer.picture.value))
    sampler.read = lambda text: torch.full((40,), math.nan)
    assert "NaN" in texts_of(sampler.explorer().picture.value)[0]


def test_summary_of_a_choice():
    assert summarize(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0])) == (pytest.approx(math.log(4)), 4)
    assert summarize(torch.tensor([1.0, 0.0])) == (0.0, 1)


@pytest.mark.parametrize("text", ["", "word " * 60, "x" * 400, "a\n\nb " * 30])
def test_broken_lines_lose_nothing_but_spaces(text):
    lines = broken_lines(text, 50)
    assert all(len(line) <= 50 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


# Box to ask in, live plot --------------------------------------------------------------------------------


def chat(entry, temperature, top_k):
    if len(entry["instruction"]) > 20:
        raise ValueError("the task is too long")
    return f"{entry['instruction']}|{entry['input']}|{temperature}|{top_k} <b>"


def test_chat_box_asks_the_chosen_model_with_the_sliders_values():
    box = chat_box({"one": chat, "two": lambda *asked: ""}, "Add.", "1 & 2")
    assert box.turns == [("Add.\n1 & 2", "one", "Add.|1 & 2|0.0|50 <b>")]
    assert "1 &amp; 2" in box.shown.value and "&lt;b&gt;" in box.shown.value and "<b>one</b>" in box.shown.value
    box.instruction.value, box.given.value, box.temperature.value, box.top_k.value = "Stop.", " ", 0.7, 5
    box.send.click()
    assert box.turns[1] == ("Stop.", "one", "Stop.||0.7|5 <b>")
    box.model.value = "two"
    box.send.click()
    assert box.turns[2] == ("Stop.", "two", "[nothing: it ended at once]")
    bundle = box._repr_mimebundle_()
    assert bundle["text/plain"].count("you: ") == 3 and bundle["text/html"] == box.shown.value


def test_chat_box_tells_what_went_wrong_and_asks_nothing_without_a_task():
    box = chat_box({"one": chat}, "Add.")
    box.instruction.value = "x" * 30
    box.send.click()
    assert box.turns[-1][2] == "[the task is too long]"
    box.instruction.value = "  "
    box.send.click()
    assert len(box.turns) == 2
    box.clear.click()
    assert box.turns == [] and box.shown.value == "" and box._repr_mimebundle_()["text/plain"] == ""


def test_the_box_keeps_every_answer_and_escapes_it():
    box = ask_box(lambda prompt: f" <{prompt}>", "a & b")
    box.prompt.value = "second"
    box.button.click()
    assert "a &amp; b" in box.answers.value and "&lt;second&gt;" in box.answers.value
    assert box._repr_mimebundle_()["text/plain"] == "a & b -> <a & b>\nsecond -> <second>"


def test_the_box_says_what_was_wrong_with_a_prompt():
    def answer(prompt):
        raise ValueError("at least one token")

    assert "[at least one token]" in ask_box(answer, "").answers.value


def test_live_plot_is_drawn_once_and_then_updated(monkeypatch):
    from shared.widgets import live

    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("update", picture.data))

    def display(picture, display_id):
        shown.append(("display", picture.data))
        return Handle()

    monkeypatch.setattr(live, "display", display)
    watch = live_losses()
    for n in (1, 2, 3):
        watch([100 * step for step in range(1, n + 1)], [9.0, math.inf, 2.5][:n], [9.5, 7.0, math.nan][:n])
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert 'alt="The losses so far; the latest: training 2.500, validation nan."' in shown[-1][1]
    live_losses(on=False)([1], [1.0], [1.0])
    assert len(shown) == 3


def test_lines_of_the_live_plot_lie_inside_and_fall_with_the_loss():
    picture = ET.fromstring(draw_losses([10, 20, 40], {"training": [8.0, 4.0, 0.0], "validation": [8.0, 8.0, 8.0]}))
    lines = [line.get("points").split() for line in picture.iter("{http://www.w3.org/2000/svg}polyline")][3:]
    (training, validation) = ([tuple(map(float, point.split(","))) for point in line] for line in lines)
    assert training[0] == validation[0] and training[2][1] > training[1][1] > training[0][1]
    assert training[1][0] - training[0][0] == pytest.approx((training[2][0] - training[1][0]) / 2, abs=0.2)
    assert all(0 <= x <= float(picture.get("width")) and 0 <= y <= float(picture.get("height")) for x, y in training)
    draw_losses([], {"training": [], "validation": []})


# The box for messages -------------------------------------------------------------------------------------


def judged(text):
    """A stand-in for a classifier: long words speak for spam."""
    words = [(word, len(word) - 4) for word in text.split()]
    return min(1.0, sum(change > 0 for _, change in words) / 4), words


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_message_can_be_drawn(text):
    box = message_box(judged, text)
    shown = texts_of(box.picture.value)
    assert shown[0].startswith(("spam", "not spam")) or shown == ["write something"]
    assert (shown == ["write something"]) == (not text.strip())


def test_typing_changes_label_probability_and_words():
    box = message_box(judged, "a b")
    assert "not spam, probability 0.000" in texts_of(box.picture.value)
    box.controls["text"].value = "congratulations winner claim prize"
    shown = texts_of(box.picture.value)
    assert "spam, probability 1.000" in shown and "winner" in shown
    bundle = box._repr_mimebundle_()
    assert bundle["text/plain"].startswith("spam, probability 1.000; words: congratulations +11.00")
    assert "<img alt=" in bundle["text/html"]


def test_shade_follows_the_sign_and_the_size_of_the_change():
    picture = draw_message(0.7, [("for", 2.0), ("against", -1.0), ("neither", 0.0)])
    assert "rgba(217,130,34,0.750)" in picture and "rgba(59,111,182,0.375)" in picture
    assert "rgba(59,111,182,0.000)" in picture


def test_words_stay_inside_the_picture_and_do_not_overlap():
    words = ["a", "word" * 9, "x" * 300, "end"] * 20
    places = layout(words)
    assert all(x >= 0 and x + pixels <= MESSAGE_WIDTH for x, _, pixels in places)
    for (x, line, pixels), (next_x, next_line, _) in zip(places, places[1:]):
        assert next_line > line or next_x >= x + pixels


# The LoRA explorer ----------------------------------------------------------------------------------------


def test_costs_of_adapters_are_those_counted_in_the_appendix():
    others = 124_441_346 - 12 * 12 * 768**2
    parts, lines = lora_costs(768, 12, others, 16, 16, "all linear layers")
    assert parts == {"adapters": 2_654_208, "frozen": 124_441_346} and "scale alpha / rank = 1;" in lines[0]
    assert lines[0].endswith("2.09% of all")  # of the adapters and the frozen numbers together
    parts, lines = lora_costs(768, 12, others, 16, 32, "queries and values")
    assert parts["adapters"] == 589_824 and "scale alpha / rank = 2;" in lines[0]
    assert "10.6 MB, of the model 497.8 MB" in lora_costs(768, 12, others, 16, 16, "all linear layers")[1][1]


def test_every_setting_of_the_lora_explorer_can_be_drawn():
    explorer = lora_explorer(8, 2, 100)
    for rank in explorer.controls["rank"].options:
        for where in LAYERS:
            explorer.controls["rank"].value, explorer.controls["where"].value = rank, where
            assert any("numbers learn" in text for text in texts_of(explorer.picture.value))
