"""Right and wrong answers to the exercises of chapter 7, for test_exercises.py."""

import torch


def format_chat(entry, mark="<|user|>\n", always=False, between="\n", strip=False):
    task = mark + entry["instruction"]
    task += between + entry["input"] if entry["input"] or always else ""
    return task.strip() if strip else task


def chat_text(entry, task=format_chat, mark="\n<|assistant|>:\n", strip=False):
    return task(entry) + mark + (entry["output"].strip() if strip else entry["output"])


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
}
