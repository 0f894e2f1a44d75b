"""Checks of the exercises of chapter 7."""

import copy
import json

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
    space = {"instruction": "Say it.", "input": " ", "output": "it"}
    same(format_chat(space), "<|user|>\nSay it.\n ", "an input of white space is an input")
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


@exercise("7.3")
def entries_of_use(usable):
    import tiktoken

    from shared.assets import SAMPLES

    tokenizer = tiktoken.get_encoding("gpt2")
    # 200 entries in the form of alpaca_data.json, with what such a file may hold.
    excerpt = json.loads((SAMPLES / "instructions.json").read_text(encoding="utf-8"))[:200]
    as_given = copy.deepcopy(excerpt)
    kept, left_out = usable(excerpt, tokenizer, 256)
    same((len(kept), left_out), (200, {"empty": 0, "too long": 0}), "all of 200 short entries can be used")
    claim(kept == as_given, "the entries stay as they are, in their order")
    add = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    before = dict(add)
    form = ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
            "\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3")  # fmt: skip
    length = len(tokenizer.encode(form)) + 1
    same(usable([add], tokenizer, length), ([add], {"empty": 0, "too long": 0}), "text and end may fill max_length")
    same(usable([add], tokenizer, length - 1), ([], {"empty": 0, "too long": 1}), "one token less, and it is too long")
    blank = {**add, "output": " \n"}
    same(usable([blank, add], tokenizer, 99), ([add], {"empty": 1, "too long": 0}), "an output of white space is empty")
    same(usable([blank], tokenizer, 5), ([], {"empty": 1, "too long": 0}), "an entry that is both counts as empty")
    no_input = {**add, "input": ""}
    same(usable([no_input], tokenizer, 99)[0], [no_input], "an entry without input is of use")
    spaced = {**add, "output": " 3\n"}
    same(usable([spaced], tokenizer, 99)[0], [{**add, "output": " 3\n"}], "outputs are taken as they are")
    odd = {**add, "output": "<|endoftext|>"}
    same(usable([odd], tokenizer, 99)[0], [odd], "a text with the letters of an end token is an ordinary text")
    letters = len(tokenizer.encode(form[:-1] + "<|endoftext|>", disallowed_special=())) + 1
    same(usable([odd], tokenizer, letters - 1)[1]["too long"], 1, "and is counted by its ordinary tokens")
    given = [blank, add]
    usable(given, tokenizer, 99)
    same(given, [blank, add], "the list that was given is left alone")
    same(usable([], tokenizer, 99), ([], {"empty": 0, "too long": 0}), "no entries give no entries")
    same(add, before, "the entries that were given are left alone")


@exercise("7.4")
def small_matrices(add_lora, replace, model_class):
    cfg = {"vocab_size": 11, "context_length": 8, "emb_dim": 4, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
    for rank, alpha in ((2, 4), (3, 3)):
        torch.manual_seed(0)
        model = model_class({**cfg, "qkv_bias": True}).eval()
        ids = torch.tensor([[1, 2, 3]])
        before, names = model(ids).detach(), {name: p.detach().clone() for name, p in model.named_parameters()}
        linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
        want = rank * sum(part.in_features + part.out_features for part in linear)
        got = add_lora(model, replace, rank, alpha)
        same(tuple(got), (sum(p.numel() for p in names.values()), 0, want), "the three numbers are right")
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        same(trained, want, "in the model itself, only the small matrices are trained")
        close(model(ids).detach(), before, "the model computes what it did before training")
        for part in model.modules():
            if hasattr(part, "alpha"):
                same((part.rank, part.alpha), (rank, alpha), "rank and alpha are passed on")
    torch.manual_seed(0)
    half = model_class({**cfg, "qkv_bias": True})
    half.tok_emb.weight.requires_grad = False
    trained = sum(p.numel() for p in half.parameters() if p.requires_grad)
    same(add_lora(half, replace, 2, 2)[0], trained, "the first number counts only what was trained")


@exercise("7.5")
def the_answer_stays(shorten):
    E = 50256
    task, answer = [1, 2, 3], [7, 8]
    same(tuple(shorten(task, answer, 99)), ([1, 2, 3, 7, 8], [-100, -100, 7, 8, E]), "the row worked by hand comes out")
    same(tuple(shorten(task, answer, 5)), ([1, 2, 3, 7, 8], [-100, -100, 7, 8, E]), "a row that just fits stays whole")
    same(tuple(shorten(task, answer, 4)), ([2, 3, 7, 8], [-100, 7, 8, E]), "a token too many is taken from the front")
    same(tuple(shorten(task, answer, 3)), ([3, 7, 8], [7, 8, E]), "one token of the task is enough")
    must_raise(ValueError, "without room for a token of the task it raises ValueError", shorten, task, answer, 2)
    must_raise(ValueError, "an answer longer than the row raises ValueError", shorten, task, answer, 1)
    same(tuple(shorten([5], [6], 9, eos=0)), ([5, 6], [6, 0]), "eos can be chosen, and short rows are not filled up")
    same(tuple(shorten([4, E, 5], [6], 3)), ([E, 5, 6], [-100, 6, E]), "an end token inside the task is a token")
    same(tuple(shorten([1, 2], [], 1)), ([2], [E]), "of an empty answer the end counts")
    same((task, answer), ([1, 2, 3], [7, 8]), "the lists that were given are left alone")


@exercise("7.6")
def the_order_of_two(order_effect):
    got = order_effect(["A", "A", "B", "?"], ["B", "A", "A", "A"])
    wide = {"dtype": torch.float64}
    by_hand = torch.tensor([2 / 3, 4 / 6, 1], **wide)
    close(torch.tensor(got, **wide), by_hand, "the votes worked by hand give 2/3, 4/6 and 1")
    for words, one, other, want in (
        ("a judge that always takes the first is never the same", ["A"] * 4, ["A"] * 4, (0.0, 1.0, 0)),
        ("nor is one that always takes the second", ["B"] * 4, ["B"] * 4, (0.0, 0.0, 0)),
        ("one that looks at the content is always the same", ["A", "B", "A"], ["B", "A", "B"], (1.0, 0.5, 0)),
        ("a vote missing in either order leaves the entry out", ["A", "", "B"], ["B", "A", None], (1.0, 0.5, 2)),
        ("if nothing is left, both shares are 0.0", ["x"], ["A"], (0.0, 0.0, 1)),
        ("no votes give 0.0 and 0", [], [], (0.0, 0.0, 0)),
        ("other letters are no votes", ["a", "A"], ["B", "B"], (1.0, 0.5, 1)),
        ("a vote is the letter and nothing else", ["Both", " A", "A"], ["A", "B", "B"], (1.0, 0.5, 2)),
        ("entries are left out, not votes", ["?", "A"], [None, "B"], (1.0, 0.5, 1)),
    ):
        close(torch.tensor(order_effect(one, other), **wide), torch.tensor(want, **wide), words)


@exercise("7.7")
def enough_of_a_margin(ipo_loss):
    pair = [torch.tensor([value], requires_grad=True) for value in (1.0, -2.0)]
    zero = torch.zeros(1)
    close(ipo_loss(*pair, zero, zero, 0.5).detach(), torch.tensor(4.0), "the pair worked by hand has the loss 4")
    close(ipo_loss(zero, zero, zero, zero, 0.5), torch.tensor(1.0), "at the start it is 1")
    close(ipo_loss(zero, zero, zero, zero, 0.1), torch.tensor(25.0), "beta sets the margin that is enough")
    generator = torch.Generator().manual_seed(0)
    four = [4 * torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(4)]
    want = sum((a - b - c + d - 1 / 0.6) ** 2 for a, b, c, d in zip(*four)) / 6
    close(ipo_loss(*four, 0.3), want, "the mean is taken over the squares of all pairs")
    ipo_loss(*pair, zero, zero, 0.5).backward()
    close(pair[0].grad, torch.tensor([4.0]), "too large a margin pulls the chosen answer down")
    close(pair[1].grad, torch.tensor([-4.0]), "and the rejected one up")
