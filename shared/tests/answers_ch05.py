"""Right and wrong answers to the exercises of chapter 5, for test_exercises.py."""

import math
from collections import Counter
from functools import cache
from pathlib import Path

import torch

from shared import checkpoints


def unigram_loss(train, held_out, size, raise_by=1, denominator=None, base=math.e, sign=-1, mean=True):
    counts = Counter(train)
    total = denominator(train, size) if denominator else len(train) + raise_by * size
    logs = [math.log((counts[token] + raise_by) / total, base) for token in held_out]
    return sign * sum(logs) / (len(held_out) if mean else 1)


def word_shares(logits, word_id, temperatures):
    return [torch.softmax(logits / temperature, dim=-1)[word_id].item() for temperature in temperatures]


def variety(texts):
    pairs = [pair for text in texts for pair in zip(text, text[1:])]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def joined_variety(texts):
    return variety([[token for text in texts for token in text]])


def mean_variety(texts):
    return sum(variety([text]) for text in texts) / len(texts)


def keep_min_p(p, share, bar=lambda p: p.amax(dim=-1, keepdim=True), keep=torch.ge, rescale=True):
    kept = torch.where(keep(p, share * bar(p)), p, 0.0)
    return kept / kept.sum(dim=-1, keepdim=True) if rescale else kept


def in_place(p, share):
    p[p < share * p.amax(dim=-1, keepdim=True)] = 0.0
    return p / p.sum(dim=-1, keepdim=True)


def to_q8(numbers, largest=None, levels=127, rounded=round):
    d = (max(map(abs, numbers)) if largest is None else largest) / levels
    return d, [rounded(number / d) if d else 0 for number in numbers]


def cache_bytes(cfg, n_texts, n_tokens, bytes_per_number):
    return 2 * cfg["n_layers"] * n_texts * n_tokens * cfg["emb_dim"] * bytes_per_number


@cache
def chapter():
    from shared.carry import load_chapter

    return load_chapter("ch05_pretraining")


def pretrained_losses(model, train_loader, val_loader, device, calc_loss_loader):
    with chapter().eval_mode(model):
        return calc_loss_loader(train_loader, model, device), calc_loss_loader(val_loader, model, device)


def never_back(model, train_loader, val_loader, device, calc_loss_loader):
    model.eval()
    with torch.no_grad():
        return calc_loss_loader(train_loader, model, device), calc_loss_loader(val_loader, model, device)


def always_trains_after(model, train_loader, val_loader, device, calc_loss_loader):
    losses = never_back(model, train_loader, val_loader, device, calc_loss_loader)
    model.train()
    return losses


def config_for(name, **changes):
    ch05 = chapter()
    return {**ch05.GPT_CONFIG_124M, **ch05.model_configs[name], "context_length": 1024, "qkv_bias": True} | changes


_shared_config, _base = {}, {}


def changes_one_dict(name):
    _shared_config.update(config_for(name))
    return _shared_config


def changes_the_base(name):
    cfg = _base if _base else _base.update(chapter().GPT_CONFIG_124M) or _base
    cfg.update(chapter().model_configs[name], qkv_bias=True)
    return cfg


def example_run(where):
    """The notebook's example for exercise 5.4."""
    ch05 = chapter()
    torch.manual_seed(1)
    text = "The keeper lit the lamp and the tide came in, and out, and in again, and the lamp burned on until the last "
    text += "boat was home and the keeper went down to sleep."
    loader = ch05.create_dataloader_v1(text, 2, 16, 16, shuffle=True)
    cfg = ch05.GPT_CONFIG_124M | {"context_length": 16, "emb_dim": 16, "n_heads": 4, "n_layers": 2, "drop_rate": 0.0}
    model = ch05.GPTModel(cfg)
    optimizer, progress, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), checkpoints.Progress(), []
    for epochs in (30, 31):
        ch05.train_resumable(model, loader, optimizer, "cpu", epochs, progress)
        with ch05.eval_mode(model):
            losses.append(ch05.calc_loss_loader(loader, model, "cpu"))
        if epochs == 30:
            checkpoints.save_checkpoint(Path(where) / "run.pth", model, optimizer, cfg, progress)
    (Path(where) / "story.txt").write_text(text, encoding="utf-8")
    return Path(where) / "run.pth", Path(where) / "story.txt", *losses


RESUME = """
import sys
from pathlib import Path
import tiktoken, torch
from shared import checkpoints
from shared.assets import use_offline_vocabulary
from shared.carry import load_chapter

use_offline_vocabulary()
ch05 = load_chapter("ch05_pretraining")
checkpoint = checkpoints.load_checkpoint(sys.argv[1])
context = checkpoint["config"]["context_length"]
model = ch05.GPTModel(checkpoint["config"])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
checkpoints.restore_checkpoint(checkpoint, model, optimizer)
loader = ch05.create_dataloader_v1(Path(sys.argv[2]).read_text(encoding="utf-8"), 2, context, context, shuffle=True)

def loss():
    with ch05.eval_mode(model):
        return ch05.calc_loss_loader(loader, model, "cpu")

print("before", loss())
ch05.train_model_simple(model, loader, loader, optimizer, "cpu", 1, 0, 1, "The", tiktoken.get_encoding("gpt2"))
print("after", loss())
"""


def program(*replacements):
    text = RESUME
    for old, new in replacements:
        if old not in text:
            raise ValueError(f"{old!r} is not in the program")
        text = text.replace(old, new)
    return lambda: text


CASES = {
    "5.1": (
        (word_shares,),
        {
            "logits not divided": (lambda x, i, ts: [torch.softmax(x, dim=-1)[i].item() for _ in ts],),
            "multiplied": (lambda x, i, ts: word_shares(x, i, [1 / t for t in ts]),),
            "probabilities divided": (lambda x, i, ts: [(x.softmax(dim=-1)[i] / t).item() for t in ts],),
            "counted in draws": (
                lambda x, i, ts: [
                    (torch.multinomial((x / t).softmax(dim=-1), 1000, True) == i).float().mean().item() for t in ts
                ],
            ),
            "in percent": (lambda x, i, ts: [100 * share for share in word_shares(x, i, ts)],),
            "a tensor": (lambda x, i, ts: torch.tensor(word_shares(x, i, ts)),),
        },
    ),
    "5.2": (
        (variety,),
        {
            "tokens instead of pairs": (
                lambda texts: len({t for text in texts for t in text}) / max(1, sum(map(len, texts))),
            ),
            "pairs across texts": (joined_variety,),
            "mean over texts": (mean_variety,),
            "order ignored": (
                lambda texts: variety([sorted(text) for text in texts]) if len(texts) > 1 else variety(texts),
            ),
            "pairs do not overlap": (
                lambda texts: len(pairs := [p for t in texts for p in zip(t[::2], t[1::2])])
                and len(set(pairs)) / len(pairs),
            ),
            "pairs as joined text": (lambda texts: variety([[str(t) for t in text] for text in texts]) and (
                len({f"{a}{b}" for text in texts for a, b in zip(text, text[1:])})
                / max(1, sum(len(text) - 1 for text in texts if text))
            ),),
            "share of the repeated": (lambda texts: 1 - variety(texts),),
        },
    ),
    "5.3": (
        (lambda temperature, top_k: temperature == 0 or top_k == 1,),
        {
            "temperature only": (lambda temperature, top_k: temperature == 0,),
            "top-k only": (lambda temperature, top_k: top_k == 1,),
            "both needed": (lambda temperature, top_k: temperature == 0 and top_k == 1,),
            "no top-k at temperature 0": (lambda t, k: (t == 0 and k is None) or k == 1,),
            "nearly 0": (lambda temperature, top_k: temperature < 0.1 or top_k == 1,),
            "below a hundredth": (lambda temperature, top_k: temperature < 0.01 or top_k == 1,),
            "below a millionth": (lambda temperature, top_k: temperature < 1e-6 or top_k == 1,),
            "any low temperature": (lambda temperature, top_k: temperature < 0.5 or top_k == 1,),
        },
    ),
    "5.4": (
        (program(), example_run),
        {
            "model not restored": (
                program(("checkpoints.restore_checkpoint(checkpoint, model, optimizer)\n", "")),
                example_run,
            ),
            "optimizer not restored": (program(("model, optimizer)\nloader", "model)\nloader")), example_run),
            "optimizer not restored, rate guessed": (
                program(("model, optimizer)\nloader", "model)\nloader"), ("lr=1e-4", "lr=3e-3")),
                example_run,
            ),
            "dropout on while measuring": (
                program(("with ch05.eval_mode(model):", "with torch.no_grad():")),
                example_run,
            ),
            "not trained": (program(("ch05.train_model_simple(", "len(sys.argv) and (")), example_run),
            "two epochs": (program(('"cpu", 1, 0, 1', '"cpu", 2, 0, 1')), example_run),
            "stops with an error": (program(("sys.argv[1])", "sys.argv[3])")), example_run),
            "prints nothing": (program(('print("after"', 'print("afterwards"')), example_run),
            "no text of a program": (lambda: None, example_run),
        },
    ),
    "5.5": (
        (pretrained_losses,),
        {
            "swapped": (lambda *args: pretrained_losses(*args)[::-1],),
            "stays in eval mode": (never_back,),
            "always back to training": (always_trains_after,),
            "with dropout": (lambda m, a, b, d, loss: (loss(a, m, d), loss(b, m, d)),),
            "one batch only": (
                lambda m, a, b, d, loss: pretrained_losses(m, a, b, d, lambda *args: loss(*args, num_batches=1)),
            ),
        },
    ),
    "5.6": (
        (config_for,),
        {
            "heads of the small one": (lambda name: config_for(name, n_heads=12),),
            "context of the chapter": (lambda name: config_for(name, context_length=256),),
            "no biases": (lambda name: config_for(name, qkv_bias=False),),
            "changes the base config": (changes_the_base,),
            "tied": (lambda name: config_for(name, tie_weights=True),),
            "only what differs": (lambda name: chapter().model_configs[name],),
            "one dict for all": (changes_one_dict,),
        },
    ),
    "5.8": (
        (keep_min_p,),
        {
            "bar is absolute": (lambda p, share: keep_min_p(p, share, bar=torch.ones_like),),
            "one bar for all rows": (lambda p, share: keep_min_p(p, share, bar=lambda p: p.max()),),
            "not rescaled": (lambda p, share: keep_min_p(p, share, rescale=False),),
            "token at the bar dropped": (lambda p, share: keep_min_p(p, share, keep=torch.gt),),
            "changes its argument": (in_place,),
            "bar of the first two": (lambda p, share: keep_min_p(p, share, bar=lambda p: p[:, :2].amax(-1, True)),),
            "rescaled over the batch": (lambda p, share: (kept := keep_min_p(p, share, rescale=False)) / kept.sum(),),
        },
    ),
    "5.9": (
        (cache_bytes,),
        {
            "keys only": (lambda *args: cache_bytes(*args) // 2,),
            "heads counted": (lambda cfg, *args: cache_bytes(cfg, *args) * cfg["n_heads"],),
            "blocks forgotten": (lambda cfg, *args: cache_bytes(cfg, *args) // cfg["n_layers"],),
            "always 4 bytes": (lambda cfg, b, n, size: cache_bytes(cfg, b, n, 4),),
            "one text": (lambda cfg, b, n, size: cache_bytes(cfg, 1, n, size),),
            "always twelve blocks of 768": (
                lambda cfg, *args: cache_bytes(cfg | ({"emb_dim": 768, "n_layers": 12} if args[1] == 1024 else {})
                                               if cfg["emb_dim"] != 6 else cfg | {"emb_dim": 4}, *args),
            ),
            "a float": (lambda *args: float(cache_bytes(*args)),),
            "in megabytes": (lambda *args: cache_bytes(*args) / 1e6,),
        },
    ),
    "5.10": (
        (to_q8,),
        {
            "127 levels of positive numbers only": (lambda x: (to_q8(x)[0], [max(0, n) for n in to_q8(x)[1]]),),
            "largest instead of largest absolute value": (lambda x: to_q8(x, largest=max(x)),),
            "divided by 128": (lambda x: to_q8(x, levels=128),),
            "cut off instead of rounded": (lambda x: to_q8(x, rounded=int),),
            "rounded down": (lambda x: to_q8(x, rounded=math.floor),),
            "a block of zeros divides by 0": (
                lambda x: (max(map(abs, x)) / 127, [round(n / (max(map(abs, x)) / 127)) for n in x]),
            ),
            "levels left as fractions": (lambda x: to_q8(x, rounded=float),),
            "step and levels swapped": (lambda x: to_q8(x)[::-1],),
            "from the smallest, as in Q4_1": (
                lambda x: ((max(x) - min(x)) / 255, [round(n / ((max(x) - min(x)) / 255 or 1)) for n in x]),
            ),
        },
    ),
    "5.7": (
        (unigram_loss,),
        {
            "counts not raised": (lambda t, v, n: unigram_loss(t, v, n, raise_by=1e-9),),
            "denominator forgets the raised counts": (
                lambda t, v, n: unigram_loss(t, v, n, denominator=lambda t, n: len(t) or 1),
            ),
            "denominator counts the tokens seen": (
                lambda t, v, n: unigram_loss(t, v, n, denominator=lambda t, n: len(t) + len(set(t)) or 1),
            ),
            "in bits": (lambda t, v, n: unigram_loss(t, v, n, base=2),),
            "sign forgotten": (lambda t, v, n: unigram_loss(t, v, n, sign=1),),
            "sum instead of mean": (lambda t, v, n: unigram_loss(t, v, n, mean=False),),
            "training and validation swapped": (lambda t, v, n: unigram_loss(v, t or v, n),),
            "raised by two": (lambda t, v, n: unigram_loss(t, v, n, raise_by=2),),
        },
    ),
}
