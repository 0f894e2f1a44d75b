"""Checks of the exercises of chapter 5."""

import math
import os
import re
import subprocess
import sys
import tempfile
from numbers import Real

import torch
from torch import nn

from shared.course import ROOT
from shared.exercises import claim, close, exercise, same

TOY_LOGITS = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


@exercise("5.7")
def unigram_baseline(unigram_loss):
    def number(value):
        claim(isinstance(value, Real) or torch.is_tensor(value), "the loss is a number")
        return torch.as_tensor(float(value))

    by_hand = (-math.log(3 / 6) - math.log(1 / 6)) / 2
    close(number(unigram_loss([0, 0, 1], [0, 2], 3)), number(by_hand), "the example worked by hand comes out")
    knows_nothing = number(unigram_loss([], [0, 1], 8))
    words = "without training ids all tokens are equally likely: unigram_loss([], [0, 1], 8) is ln 8"
    close(knows_nothing, number(math.log(8)), words)
    handed_over = [0, 0, 1]
    unigram_loss(handed_over, [0, 2], 3)
    claim(handed_over == [0, 0, 1], "the caller's lists are left alone")
    long = number(unigram_loss([0, 0, 1], [0, 2] * 500, 3))
    close(long, number(by_hand), "a thousand validation ids are no trouble: logarithms are added")
    generator = torch.Generator().manual_seed(1)
    train, held_out = (torch.randint(0, 40, (n,), generator=generator).tolist() for n in (300, 70))
    counts = [train.count(token) + 1 for token in range(50)]
    want = -sum(math.log(counts[token] / sum(counts)) for token in held_out) / len(held_out)
    close(number(unigram_loss(train, held_out, 50)), number(want), "it is right for longer texts")


@exercise("5.1")
def shares_of_a_word(word_shares):
    pair = torch.tensor([0.0, math.log(3)])
    by_hand = word_shares(pair, 1, [1, math.log(3)])
    claim(isinstance(by_hand, list) and all(isinstance(share, Real) for share in by_hand), "it is a list of floats")
    close(torch.tensor(by_hand), torch.tensor([0.75, 0.7311]), "the example worked by hand comes out", 1e-4)
    toy = TOY_LOGITS.clone()
    pizza = word_shares(toy, 6, [1, 0.1, 5])
    claim(torch.equal(toy, TOY_LOGITS), "the caller's logits are left alone")
    close(torch.tensor(pizza), torch.tensor([1.01e-4, 0.0, 0.042998]), "pizza's shares are exact, not counted", 1e-6)
    cold = word_shares(TOY_LOGITS.clone(), 3, [0.01])
    close(torch.tensor(cold), torch.tensor([1.0]), "a temperature of 0.01 is no trouble: nothing overflows", 1e-4)
    every_word = [word_shares(TOY_LOGITS.clone(), word, [0.7])[0] for word in range(9)]
    close(torch.tensor(every_word).sum(), torch.tensor(1.0), "the shares of all words sum to 1")


@exercise("5.2")
def distinct_pairs(variety):
    claim(math.isclose(variety([[1, 2, 1, 2], [1, 2, 3]]), 0.6), "the example worked by hand comes out")
    texts = [[1, 12], [11, 2]]
    claim(variety(texts) == 1.0, "1, 12 and 11, 2 are two different pairs")
    claim(texts == [[1, 12], [11, 2]], "the caller's lists are left alone")
    claim(variety([[5, 5, 5, 5, 5]]) == 0.25, "a token repeated four times has one distinct pair of four")
    claim(variety([[1, 2], [2, 1]]) == 1.0, "the order within a pair counts")
    claim(variety([[1, 2], [3, 4]]) == 1.0, "there is no pair across the border of two texts")
    claim(variety([[1, 2], [1, 2]]) == 0.5, "a pair that two texts share is distinct only once")
    claim(variety([[7], []]) == 0.0 and variety([]) == 0.0, "texts without any pair, or no texts, give 0.0")
    claim(variety([[], [1, 2, 3]]) == 1.0, "a text without pairs counts for nothing: [] and 1, 2, 3 give 1.0")
    after_one = variety([[7], [1, 2, 1, 2]])
    claim(math.isclose(after_one, 2 / 3), "texts after one without pairs still count: 7 and 1, 2, 1, 2 give 2/3")


@exercise("5.3")
def settings_without_luck(always_the_same):
    cases = [(t, k) for t in (0, 0.0, 1e-30, 1e-4, 0.01, 0.1, 1, 5.0) for k in (None, 1, 2, 50_257)]
    for temperature, top_k in cases:
        answer = always_the_same(temperature, top_k)
        claim(answer in (True, False), "the answer is True or False")
        claim(
            bool(answer) == (temperature == 0 or top_k == 1),
            f"temperature {temperature} with top_k {top_k} is judged right",
        )


@exercise("5.4")
def resumed_elsewhere(resume_program, example_run):
    program = resume_program()
    claim(isinstance(program, str), "resume_program returns the text of a program")
    with tempfile.TemporaryDirectory() as folder:
        try:
            checkpoint, text, before, after = example_run(folder)
        except Exception as error:
            claim(False, f"the example of the notebook can be made; it stopped with {type(error).__name__}: {error}")
        printed = _printed_losses(program, checkpoint, text)
        claim(abs(printed["before"] - before) < 0.01, "the loss begins where the saved run stood")
        claim(
            abs(printed["after"] - after) < 0.001,
            "one more epoch brings what it would have brought without the break, optimizer and learning rate included",
        )
        # The same run with dropout in its config: a measurement without dropout does not notice.
        with_dropout = torch.load(checkpoint, weights_only=True)
        with_dropout["config"]["drop_rate"] = 0.5
        torch.save(with_dropout, checkpoint)
        printed = _printed_losses(program, checkpoint, text)
        claim(abs(printed["before"] - before) < 0.01, "dropout is off while measuring, also for a config that has some")
        words = "the extra epoch trains with the dropout of the checkpoint's config"
        claim(abs(printed["after"] - after) > 0.001, words)


def _printed_losses(program, checkpoint, text):
    """What a program of exercise 5.4 prints for a checkpoint and a text: {"before": loss, "after": loss}."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", program, str(checkpoint), str(text)],
            cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        claim(False, "the program ends within five minutes")
    complaint = (run.stderr.strip().splitlines() or ["no message"])[-1]
    claim(run.returncode == 0, f"the program runs without an error; the last line of its error output is: {complaint}")
    printed = dict(re.findall(r"^(before|after) (\d+\.\d{4,})\s*$", run.stdout, flags=re.M))
    words = "it prints a line `before` and a line `after`, each with a space and a loss to four decimals at least"
    claim(set(printed) == {"before", "after"}, words)
    return {name: float(number) for name, number in printed.items()}


@exercise("5.5")
def measured_without_training(pretrained_losses):
    model = nn.Sequential(nn.Embedding(10, 4), nn.Dropout(0.5), nn.Linear(4, 10))
    model.train()
    batches = [(torch.arange(n).reshape(1, n) % 10, torch.ones(1, n, dtype=torch.int64)) for n in (6, 9)]
    loaders = [batches[:1] * 3, batches[1:] * 3]
    calls = []

    def calc_loss_loader(data_loader, model, device, num_batches=None):
        calls.append((data_loader is loaders[0], model.training, torch.is_grad_enabled(), device, num_batches))
        return 1.5 if data_loader is loaders[0] else 2.5

    losses = pretrained_losses(model, *loaders, "cpu", calc_loss_loader)
    claim(calls, "the calc_loss_loader that was passed is called")
    claim(tuple(losses) == (1.5, 2.5), "the training loader's loss comes first, the validation loader's second")
    on_device = all(str(call[3]) == "cpu" and call[4] in (None, 3) for call in calls)  # all of three
    claim(len(calls) == 2 and on_device, "all batches are used, on the device")
    claim(not any(call[1] for call in calls), "dropout is off while measuring")
    claim(not any(call[2] for call in calls), "no gradients are recorded while measuring")
    claim(model.training, "the model is back in training mode afterwards")
    model[1].eval()
    pretrained_losses(model, *loaders, "cpu", calc_loss_loader)
    claim(model.training and not model[1].training, "each part of the model is back in the mode that it had")
    model.eval()
    pretrained_losses(model, *loaders, "cpu", calc_loss_loader)
    claim(not model.training, "a model that was in eval mode stays in it")


@exercise("5.6")
def configs_of_the_family(config_for):
    sizes = {"small (124M)": (768, 12, 12), "medium (355M)": (1024, 24, 16), "large (774M)": (1280, 36, 20)}
    sizes["xl (1558M)"] = (1600, 48, 25)
    first = config_for("gpt2-xl (1558M)")
    claim(isinstance(first, dict), "it is a config, a dict")
    before = dict(first)
    for name, (width, n_layers, n_heads) in sizes.items():
        cfg = config_for(f"gpt2-{name}")
        got = tuple(cfg.get(key) for key in ("emb_dim", "n_layers", "n_heads"))
        same(got, (width, n_layers, n_heads), f"gpt2-{name} has its width, blocks and heads")
        same(cfg.get("context_length"), 1024, "the context is GPT-2's")
        same(cfg.get("qkv_bias"), True, "queries, keys and values have a bias")
        same(cfg.get("tie_weights", False), False, "the output layer is not tied")
        same((cfg.get("vocab_size"), cfg.get("drop_rate")), (50257, 0.1), "the rest is that of GPT_CONFIG_124M")
    config_for("gpt2-small (124M)")
    claim(config_for("gpt2-xl (1558M)") is not first, "asked twice for one size, it returns two dicts")
    claim(first == before, "asking for one size does not change another")


@exercise("5.8")
def filter_by_share(keep_min_p):
    row = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    before = row.clone()
    want = torch.tensor([[0.5263, 0.3158, 0.1579, 0.0]])
    close(keep_min_p(row, 0.25), want, "the example worked by hand comes out", 1e-4)
    close(row, before, "the caller's tensor is left alone")
    two = torch.tensor([[0.05, 0.9, 0.05], [0.375, 0.5, 0.125]])
    want = torch.tensor([[0.0, 1.0, 0.0], [3 / 7, 4 / 7, 0.0]])
    close(keep_min_p(two, 0.5), want, "each row has its own bar")
    close(keep_min_p(two, 0.75), want, "a token exactly at the bar is kept")
    close(keep_min_p(two, 0.0), two, "a share of 0 keeps everything")
    last = torch.tensor([[0.1, 0.2, 0.2, 0.5]])
    close(keep_min_p(last, 0.3), torch.tensor([[0.0, 2 / 9, 2 / 9, 5 / 9]]), "the likeliest may stand anywhere")


@exercise("5.9")
def size_of_the_cache(cache_bytes):
    cfg = {"vocab_size": 11, "context_length": 64, "emb_dim": 4, "n_heads": 2, "n_layers": 1, "drop_rate": 0.1}
    same(cache_bytes(cfg, 1, 3, 4), 96, "the example worked by hand comes out")
    same(cache_bytes(cfg | {"n_heads": 4}, 1, 3, 4), 96, "the number of heads does not matter")
    same(cache_bytes(cfg | {"n_layers": 12}, 1, 3, 4), 1152, "every block has its own keys and values")
    gpt2 = cfg | {"context_length": 1024, "emb_dim": 768, "n_layers": 12, "n_heads": 12}
    same(cache_bytes(gpt2, 1, 1024, 4), 75_497_472, "GPT-2's cache for a full context is 75.5 MB")
    same(cache_bytes(gpt2, 16, 1024, 2), 603_979_776, "it grows with the number of texts and halves with 16 bits")
    same(cache_bytes(cfg | {"emb_dim": 6, "n_layers": 5}, 3, 7, 1), 1260, "it is right for another width and depth")
    same(cache_bytes(cfg, 1, 0, 4), 0, "a cache without tokens takes nothing")
    claim(isinstance(cache_bytes(cfg, 1, 3, 4), int), "the result is an int: bytes have no fractions")


@exercise("5.10")
def eight_bits(to_q8):
    def case(numbers, step, levels, words):
        d, whole = to_q8(list(numbers))
        words = f"{words}, {numbers},"
        claim(abs(d - step) <= 1e-6 * abs(step), f"{words} the step is {step:.6g}; yours is {d:.6g}")
        same([int(level) for level in whole], levels, f"{words} the whole numbers are right")
        claim(all(float(level) == int(level) for level in whole), "the levels are whole numbers")

    case([1.27, -0.5, 0.004], 0.01, [127, -50, 0], "in the example worked by hand")
    case([-2.54, 1.0, 0.031], 0.02, [-127, 50, 2], "where the largest is negative")
    case([0.0, 0.0, 0.0, 0.0], 0.0, [0, 0, 0, 0], "where all are 0")
    case([0.127, 0.0634, -0.0637], 0.001, [127, 63, -64], "rounded to the nearest, not down")
    case([5.0], 5 / 127, [127], "for a single number")
    numbers = torch.linspace(-3.0, 2.0, 32, dtype=torch.float64).tolist()
    d, whole = to_q8(numbers)
    claim(abs(d - 3 / 127) < 1e-9 and len(whole) == 32, "a block of 32 has one step and 32 whole numbers")
    worst = max(abs(d * level - number) for level, number in zip(whole, numbers))
    claim(worst <= d / 2 * (1 + 1e-9), "no number comes back further off than half a step")
