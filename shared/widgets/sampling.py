"""Sampling explorer: what temperature, top-k and top-p leave of the probabilities for the next token."""

from functools import lru_cache

import ipywidgets

from shared.widgets import svg
from shared.widgets.explorer import Explorer

SHOWN = 12  # tokens with a bar
COLUMN, ROW, LEFT, TOP = 170, 22, 110, 62
LINE = 96  # characters of the written text in a line
# A slider cannot hold None, so "all" is 0 there.
TOP_K = {"1": 1, "2": 2, "3": 3, "5": 5, "10": 10, "25": 25, "50": 50, "200": 200, "1000": 1000, "all": 0}


def summarize(probabilities):
    """How undecided a choice is: (entropy in nats, number of tokens that are possible at all), for a tensor (V,)."""
    possible = probabilities[probabilities > 0].double()
    return abs((possible * possible.log()).sum().item()), len(possible)


def broken_lines(text, width=LINE):
    """Text cut into lines of at most ``width`` characters, at spaces where there are any."""
    lines = []
    while len(text) > width:
        cut = text.rfind(" ", 1, width + 1)
        cut = cut if cut > 0 else width
        lines.append(text[:cut])
        text = text[cut:].lstrip(" ")
    return [*lines, text]


def draw_sampling(words, stages, summaries, written):
    """The picture: a column of bars for each stage, and the text that was written.

    Args:
        words: the tokens that are shown, as strings, the likeliest first.
        stages: name -> their probabilities after this stage.
        summaries: name -> (entropy, tokens possible) of the whole vocabulary.
        written: the text, or "" if none was written with these settings.
    """
    parts, bottom = [], TOP + ROW * len(words)
    for place, word in enumerate(words):
        parts.append(svg.text(LEFT - 8, TOP + ROW * place + 15, svg.visible(word)[:12], 12, anchor="end", mono=True))
    for column, (name, probabilities) in enumerate(stages.items()):
        x, colour = LEFT + COLUMN * column, svg.COLOURS[column % len(svg.COLOURS)]
        entropy, possible = summaries[name]
        parts.append(svg.text(x, 20, name, weight="bold"))
        parts.append(svg.text(x, 38, f"{possible:,} possible", 11))
        parts.append(svg.text(x, 52, f"entropy {entropy:.2f} nats", 11))
        for place, share in enumerate(probabilities):
            y = TOP + ROW * place
            parts.append(svg.rectangle(x, y + 2, 100 * share, ROW - 5, colour, "#888888" if share else "none"))
            parts.append(svg.text(x + 100 * share + 5, y + 15, f"{share:.3f}" if share else "0", 11, mono=True))
    # Visible control characters, but spaces as they are.
    seen = " ".join(svg.visible(word) for word in written.split(" "))
    lines = broken_lines(seen) if written else ["(press the button to write with these settings)"]
    for place, line in enumerate(lines):
        parts.append(svg.text(8, bottom + 26 + 18 * place, line, 12, mono=True))
    return svg.picture(LEFT + COLUMN * len(stages) + 10, bottom + 36 + 18 * len(lines), parts)


def describe_sampling(words, stages, summaries, written):
    """The picture in words."""
    sentences = []
    for name, (entropy, possible) in summaries.items():
        best = ", ".join(f"{svg.visible(word)} {share:.3f}" for word, share in list(zip(words, stages[name]))[:3])
        sentences.append(f"{name}: {possible:,} possible, entropy {entropy:.2f} nats ({best})")
    return "; ".join([*sentences, *([f"written: {written}"] if written else [])])


def sampling_explorer(read, stages, write, decode, prompt):
    """A prompt, three sliders and a seed; the probabilities after each stage, and a text written with them.

    Args:
        read: text -> logits (V,) of the next token, a tensor. It is called once per prompt, so that moving a slider
            only draws. An exception that it raises is shown in place of the picture.
        stages: (logits, temperature, top_k, top_p) -> name -> probabilities (V,), a tensor for each stage in order.
        write: (text, temperature, top_k, top_p, seed) -> text; it is called when the button is pressed.
        decode: list of one id -> the token as a string.
        prompt: what the box holds at first.
    """
    read, written = lru_cache(maxsize=8)(read), {}
    wide = ipywidgets.Layout(width="700px")
    controls = {
        "text": ipywidgets.Text(prompt, description="prompt", layout=wide),
        "temperature": ipywidgets.FloatSlider(1.0, min=0.0, max=5.0, step=0.1, description="temperature"),
        "top_k": ipywidgets.SelectionSlider(options=TOP_K, value=25, description="top-k"),
        "top_p": ipywidgets.FloatSlider(0.9, min=0.05, max=1.0, step=0.05, description="top-p", readout_format=".2f"),
        "seed": ipywidgets.IntSlider(123, 1, 200, description="seed"),
    }

    def looked_up(**values):
        logits = read(values["text"])
        if not logits.amax().isfinite():
            raise ValueError("the model gave logits that are NaN or infinite")
        after = stages(logits, values["temperature"], values["top_k"] or None, values["top_p"])
        first = next(iter(after.values()))
        ids = first.topk(min(SHOWN, len(first))).indices
        shown = {name: probabilities[ids].tolist() for name, probabilities in after.items()}
        summaries = {name: summarize(probabilities) for name, probabilities in after.items()}
        return [decode([token]) for token in ids.tolist()], shown, summaries, written.get(tuple(values.values()), "")

    def guarded(make):
        def made(**values):
            try:
                return make(*looked_up(**values))
            except ValueError as error:      # an empty prompt, for example
                return problem(make, str(error))

        return made

    def problem(make, words):
        if make is describe_sampling:
            return words
        lines = broken_lines(words)
        return svg.picture(
            LEFT + 4 * COLUMN, 20 + 18 * len(lines), [svg.text(8, 24 + 18 * n, line) for n, line in enumerate(lines)]
        )

    def write_now(button=None):
        values = explorer.values()
        try:
            written[tuple(values.values())] = write(**{**values, "top_k": values["top_k"] or None})
        except ValueError:
            return      # the picture already says what is wrong
        explorer.redraw()

    explorer = Explorer(controls, draw=guarded(draw_sampling), describe=guarded(describe_sampling))
    explorer.button = ipywidgets.Button(description="Write")
    explorer.button.on_click(write_now)
    explorer.view.children = [*controls.values(), explorer.button, explorer.picture]
    write_now()
    return explorer
