"""Checks of the exercises of chapter 7."""

import torch

from shared.exercises import claim, close, exercise, must_raise, same


@exercise("7.1")
def another_form(format_chat, chat_text):
    entry = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    before = dict(entry)
    same(format_chat(entry), "<|user|>\nAdd.\n1 and 2", "the task worked by hand comes out")
    same(chat_text(entry), "<|user|>\nAdd.\n1 and 2\n<|assistant|>:\n3", "and the text")
    without = {"instruction": "Say hello.", "input": "", "output": "Hello."}
    same(format_chat(without), "<|user|>\nSay hello.", "without an input there is no line for it")
    same(chat_text(without), "<|user|>\nSay hello.\n<|assistant|>:\nHello.", "and the answer follows the task")
    lines = {"instruction": "List two.", "input": "a\nb", "output": " 1\n2\n"}
    same(chat_text(lines), "<|user|>\nList two.\na\nb\n<|assistant|>:\n 1\n2\n", "texts are taken as they are")
    same(entry, before, "the entry is left alone")


@exercise("7.2")
def only_the_answer(mask_task):
    targets = torch.tensor([[11, 12, 13, 14]])
    close(mask_task(targets, [3]), torch.tensor([[-100, -100, 13, 14]]), "the example worked by hand comes out")
    close(mask_task(targets, [1]), targets, "of a task of one token nothing is masked")
    close(targets, torch.tensor([[11, 12, 13, 14]]), "the targets that were given are left alone")
    rows = torch.tensor([[1, 2, 3, 50256, -100], [4, 5, 6, 7, 50256], [8, 50256, -100, -100, -100]])
    want = torch.tensor([[-100, 2, 3, 50256, -100], [-100, -100, -100, 7, 50256], [8, 50256, -100, -100, -100]])
    got = mask_task(rows, [2, 4, 1])
    close(got, want, "each row has its own length, and padding stays masked")
    same(str(got.dtype), "torch.int64", "the targets stay whole numbers")
    close(mask_task(rows, torch.tensor([2, 4, 1])), want, "the lengths may be a tensor, too")
    close(mask_task(targets, [2], ignore_index=-1), torch.tensor([[-1, 12, 13, 14]]), "ignore_index can be chosen")
    close(mask_task(targets, [4]), torch.tensor([[-100, -100, -100, 14]]), "one target is enough")
    must_raise(ValueError, "a row without a target raises ValueError", mask_task, targets, [5])
    cut = torch.tensor([[1, 2, 3], [4, 50256, -100]])
    must_raise(ValueError, "a row whose answer is all padding raises ValueError, also beside one that is all right",
               mask_task, cut, [1, 3])  # fmt: skip
    claim(mask_task(cut, [1, 2])[1].tolist() == [-100, 50256, -100], "the end token counts")
