"""Right and wrong answers to the exercises of chapter 7, for test_exercises.py."""

import torch


def format_chat(entry, mark="<|user|>\n", always=False, between="\n", strip=False):
    task = mark + entry["instruction"]
    task += between + entry["input"] if entry["input"] or always else ""
    return task.strip() if strip else task


def chat_text(entry, task=format_chat, mark="\n<|assistant|>:\n", strip=False):
    return task(entry) + mark + (entry["output"].strip() if strip else entry["output"])


def without_blanks(entry):
    return format_chat({**entry, "input": entry["input"].strip()})


def both(**settings):
    def task(entry):
        return format_chat(entry, **settings)

    return task, lambda entry: chat_text(entry, task)


def emptied(entry):
    text = format_chat(entry)
    entry["input"] = ""
    return text


def mask_task(targets, task_lengths, ignore_index=-100, shift=1, check=True, own=-100, first_only=False):
    lengths = torch.as_tensor(task_lengths)
    if first_only:
        lengths = lengths[:1].expand(len(targets))
    task = torch.arange(targets.shape[1]) < (lengths - shift)[:, None]
    out = targets.masked_fill(task, ignore_index)
    if check and ((out == ignore_index) | (out == own)).all(dim=1).any():
        raise ValueError("a row has no target left")
    return out


def in_place(targets, task_lengths, ignore_index=-100):
    out = mask_task(targets, task_lengths, ignore_index)
    return targets.copy_(out)


def whole_batch_only(targets, task_lengths, ignore_index=-100):
    out = mask_task(targets, task_lengths, ignore_index, check=False)
    if (out == ignore_index).all():
        raise ValueError("nothing is left")
    return out


def usable(data, tokenizer, max_length, end=1, strip=True, order=("empty", "too long"), both=False, **encoding):
    encoding = encoding or {"disallowed_special": ()}
    kept, left_out = [], {"empty": 0, "too long": 0}
    for entry in data:
        text = "Below is an instruction that describes a task. "
        text += "Write a response that appropriately completes the request."
        text += f"\n\n### Instruction:\n{entry['instruction']}"
        text += f"\n\n### Input:\n{entry['input']}" if entry["input"] else ""
        text += f"\n\n### Response:\n{entry['output']}"
        output = entry["output"].strip() if strip else entry["output"]
        faults = {"empty": not output, "too long": len(tokenizer.encode(text, **encoding)) + end > max_length}
        named = [name for name in order if faults[name]]
        for name in named if both else named[:1]:
            left_out[name] += 1
        if not named:
            kept.append(entry)
    return kept, left_out


def changed(data, tokenizer, max_length):
    for entry in data:
        entry["output"] = entry["output"].strip()
    return usable(data, tokenizer, max_length)


def emptied_list(data, tokenizer, max_length):
    kept, left_out = usable(data, tokenizer, max_length)
    data[:] = kept
    return kept, left_out


def needs_input(data, tokenizer, max_length):
    return usable([entry for entry in data if entry["input"]], tokenizer, max_length)


def add_lora(model, replace, rank=16, alpha=16, freeze="before", learning=True, settings=None):
    def count():
        return sum(p.numel() for p in model.parameters() if p.requires_grad or not learning)

    before = count()
    if freeze == "before":
        model.requires_grad_(False)
    frozen = count()
    replace(model, *(settings(rank, alpha) if settings else (rank, alpha)))
    if freeze == "after":
        model.requires_grad_(False)
    return before, frozen, count()


def everything_counted(model, replace, rank=16, alpha=16):
    before = sum(p.numel() for p in model.parameters())
    _, frozen, after = add_lora(model, replace, rank, alpha)
    return before, frozen, after


def shorten(task, answer, max_length, eos=50256, side="front", at_least=1, mask=1, end=True, room=0):
    fits = max_length - len(answer) + room
    if fits < at_least:
        raise ValueError("no room")
    if len(task) > fits:
        task = task[len(task) - fits :] if side == "front" else task[:fits]
    inputs = task + answer
    targets = [-100] * (len(task) - mask) + inputs[len(task) - mask + 1 :] + [eos if end else -100]
    return inputs, targets


def cut_at_the_end(task, answer, max_length, eos=50256):
    inputs, targets = shorten(task, answer, 10_000, eos)
    if max_length <= len(answer):
        raise ValueError("no room")
    return inputs[:max_length], targets[:max_length]


def all_but_the_end(task, answer, max_length, eos=50256):
    inputs, targets = shorten(task, answer, max_length, eos)
    return inputs, [-100 if target == eos else target for target in targets]


def order_effect(one_way, other_way, same_letter=False, first_only=False, count=True, empty=0.0, valid=("A", "B")):
    votes = [(a, b) for a, b in zip(one_way, other_way) if a in valid and b in valid]
    if not votes:
        return empty, empty, len(one_way)
    steady = sum((a == b) == same_letter for a, b in votes) / len(votes)
    first = sum(a == "A" for a, _ in votes) / len(votes)
    second = sum(b == "A" for _, b in votes) / len(votes)
    return steady, first if first_only else (first + second) / 2, len(one_way) - len(votes) if count else 0


def of_all(one_way, other_way):
    steady, first, left_out = order_effect(one_way, other_way)
    n = max(1, len(one_way))
    return steady * (n - left_out) / n, first * (n - left_out) / n, left_out


def votes_left_out(one_way, other_way):
    steady, first, _ = order_effect(one_way, other_way)
    return steady, first, sum(vote not in ("A", "B") for vote in [*one_way, *other_way])


def ipo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta, enough=None, after=False):
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    distance = margin - (enough(beta) if enough else 1 / (2 * beta))
    return distance.mean() ** 2 if after else (distance**2).mean()


def no_reference(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
    return ipo_loss(policy_chosen, policy_rejected, 0 * reference_chosen, 0 * reference_rejected, beta)


def only_below(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta):
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return ((margin - 1 / (2 * beta)).clamp(max=0) ** 2).mean()


def lora_cases():
    """The answers to 7.4 with the classes that they need; loaded late, since it runs the code of appendix E."""
    from shared.carry import load_chapter

    lora = load_chapter("appendix_e_lora")
    rest = lora.replace_linear_with_lora, lora.GPTModel
    wrong = {
        "frozen afterwards": lambda *a: add_lora(*a, freeze="after"),
        "never frozen": lambda *a: add_lora(*a, freeze="never"),
        "all counted": lambda *a: add_lora(*a, learning=False),
        "rank and alpha swapped": lambda *a: add_lora(*a, settings=lambda rank, alpha: (alpha, rank)),
        "alpha forgotten": lambda *a: add_lora(*a, settings=lambda rank, alpha: (rank, rank)),
        "default settings": lambda *a: add_lora(*a, settings=lambda rank, alpha: (16, 16)),
        "first number of all": everything_counted,
    }
    return (add_lora, *rest), {name: (answer, *rest) for name, answer in wrong.items()}


CASES = {
    "7.1": (
        (format_chat, chat_text),
        {
            "empty line without input": both(always=True),
            "input on the same line": both(between=" "),
            "a blank line before the input": both(between="\n\n"),
            "mark without bars": both(mark="<user>\n"),
            "no colon": (format_chat, lambda entry: chat_text(entry, mark="\n<|assistant|>\n")),
            "alpaca heading": (format_chat, lambda entry: chat_text(entry, mark="\n\n### Response:\n")),
            "answer stripped": (format_chat, lambda entry: chat_text(entry, strip=True)),
            "changes the entry": (emptied, chat_text),
            "white space is no input": (without_blanks, lambda entry: chat_text(entry, without_blanks)),
        },
    ),
    "7.2": (
        (mask_task,),
        {
            "one too many": (lambda *a, **k: mask_task(*a, **k, shift=0),),
            "one too few": (lambda *a, **k: mask_task(*a, **k, shift=2),),
            "in place": (in_place,),
            "minus 100 typed in": (lambda t, n, ignore_index=-100: mask_task(t, n),),
            "not checked": (lambda *a, **k: mask_task(*a, **k, check=False),),
            "whole batch checked": (whole_batch_only,),
            "first row's length": (lambda *a, **k: mask_task(*a, **k, first_only=True),),
            "zeros": (lambda t, n, ignore_index=-100: mask_task(t, n, 0),),
        },
    ),
    "7.3": (
        (usable,),
        {
            "end forgotten": (lambda *a: usable(*a, end=0),),
            "white space is text": (lambda *a: usable(*a, strip=False),),
            "too long first": (lambda *a: usable(*a, order=("too long", "empty")),),
            "counted twice": (lambda *a: usable(*a, both=True),),
            "special tokens refused": (lambda *a: usable(*a, disallowed_special="all"),),
            "special tokens left out": (lambda d, t, n: usable([e for e in d if "<|" not in e["output"]], t, n),),
            "outputs stripped": (changed,),
            "letters read as one token": (lambda *a: usable(*a, allowed_special={"<|endoftext|>"}),),
            "list emptied": (emptied_list,),
            "input needed": (needs_input,),
        },
    ),
    "7.4": lora_cases(),
    "7.5": (
        (shorten,),
        {
            "task cut at its end": (lambda *a, **k: shorten(*a, **k, side="back"),),
            "row cut at its end": (cut_at_the_end,),
            "no token of the task needed": (lambda *a, **k: shorten(*a, **k, at_least=0),),
            "two needed": (lambda *a, **k: shorten(*a, **k, at_least=2),),
            "one token too short": (lambda *a, **k: shorten(*a, **k, room=-1),),
            "one token too long": (lambda *a, **k: shorten(*a, **k, room=1),),
            "end does not count": (lambda *a, **k: shorten(*a, **k, end=False),),
            "the whole task masked, and one more": (lambda *a, **k: shorten(*a, **k, mask=0),),
            "every end token masked": (all_but_the_end,),
            "an answer needed": (lambda t, a, n, eos=50256: shorten(t, a, n if a else 0, eos),),
        },
    ),
    "7.6": (
        (order_effect,),
        {
            "same letter": (lambda *a: order_effect(*a, same_letter=True),),
            "first order only": (lambda *a: order_effect(*a, first_only=True),),
            "not counted": (lambda *a: order_effect(*a, count=False),),
            "one half if nothing is left": (lambda *a: order_effect(*a, empty=0.5),),
            "small letters": (lambda *a: order_effect(*([v.upper() if v else v for v in side] for side in a)),),
            "shares of all": (of_all,),
            "first letters": (lambda *a: order_effect(*([(v or "")[:1] for v in side] for side in a)),),
            "blanks taken away": (lambda *a: order_effect(*([(v or "").strip() for v in side] for side in a)),),
            "votes counted": (votes_left_out,),
            "anything is a vote": (lambda *a: order_effect(*a, valid=("A", "B", "?", "", None, "a", "x")),),
        },
    ),
    "7.7": (
        (ipo_loss,),
        {
            "mean first": (lambda *a: ipo_loss(*a, after=True),),
            "one over beta": (lambda *a: ipo_loss(*a, enough=lambda beta: 1 / beta),),
            "beta halved": (lambda *a: ipo_loss(*a, enough=lambda beta: beta / 2),),
            "no reference": (no_reference,),
            "never pulled back": (only_below,),
            "chosen and rejected swapped": (lambda a, b, c, d, beta: ipo_loss(b, a, d, c, beta),),
        },
    ),
}
