"""Right and wrong answers to the exercises of chapter 4, for test_exercises.py."""

import copy

import torch

from shared.carry import load_chapter

ch04 = load_chapter("ch04_gpt_model")
FF, MHA, MODEL, CONFIG = ch04.FeedForward, ch04.FusedMultiHeadAttention, ch04.GPTModel, ch04.GPT_CONFIG_124M
SIZES = {"medium": (1024, 24, 16), "large": (1280, 36, 20), "xl": (1600, 48, 25)}


def count(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_by_layers(module):
    parts = [part for part in module.modules() if not list(part.children())]
    return sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad)


def config(name, sizes=SIZES, base=None, **extra):
    if name not in sizes:
        raise ValueError(f"there are {', '.join(sizes)}")
    keys = ("emb_dim", "n_layers", "n_heads")
    return {**(base or CONFIG), **dict(zip(keys, sizes[name])), **extra}


def config_in_place(name):
    CONFIG_COPY.update(config(name, base=CONFIG_COPY))
    return CONFIG_COPY


CONFIG_COPY = copy.deepcopy(CONFIG)


def rates(cfg, emb="drop_rate_emb", attn="drop_rate_attn", shortcut="drop_rate_shortcut", blocks=None):
    model = MODEL({**cfg, "drop_rate": 0.0})
    model.drop_emb.p = cfg[emb]
    for block in list(model.trf_blocks)[:blocks]:
        block.att.dropout.p = cfg[attn]
        block.drop_shortcut.p = cfg[shortcut]
    return model


def rates_into_config(cfg):
    cfg["drop_rate"] = 0.0
    return rates(cfg)


class Extra(MODEL):
    def __init__(self, cfg):
        super().__init__({**cfg, "drop_rate": 0.0})
        self.another = torch.nn.Linear(2, 2)


def rates_with_extra_layer(cfg):
    model = Extra(cfg)
    model.drop_emb.p = cfg["drop_rate_emb"]
    for block in model.trf_blocks:
        block.att.dropout.p, block.drop_shortcut.p = cfg["drop_rate_attn"], cfg["drop_rate_shortcut"]
    return model


@torch.no_grad()
def until(model, idx, n, context, eos, look_first=False, keep=True, cut=False, grow=False):
    for _ in range(n):
        if look_first and (idx == eos).any():
            break
        shown = idx if grow else idx[:, -context:]
        newest = model(shown)[:, -1].argmax(dim=-1, keepdim=True)
        if newest.item() == eos and not keep:
            break
        idx = torch.cat([shown if cut else idx, newest], dim=1)
        if newest.item() == eos:
            break
    return idx


def likeliest(logits, k):
    probabilities, ids = torch.softmax(logits[:, -1], dim=-1).topk(k, dim=-1)
    return ids, probabilities


def renormalised(logits, k):
    values, ids = logits[:, -1].topk(k, dim=-1)
    return ids, torch.softmax(values, dim=-1)


class Block(torch.nn.Module):
    """The block, with places where mistakes can be put in."""

    def __init__(self, cfg, parts="att ff norm1 norm2 drop_shortcut"):
        super().__init__()
        whole = ch04.TransformerBlock(cfg)
        for name in parts.split():
            setattr(self, name, getattr(whole, name))

    def forward(self, x):
        x = x + self.drop_shortcut(self.att(self.norm1(x)))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


def block(forward):
    """A class of block with another forward pass."""
    return type("WrongBlock", (Block,), {"forward": forward})


def normalised_shortcut(self, x):
    x = self.norm1(x)
    x = x + self.drop_shortcut(self.att(x))
    return x + self.drop_shortcut(self.ff(self.norm2(x)))


def attended(block, x, norm="norm1"):
    """What the first half adds."""
    return block.drop_shortcut(block.att(getattr(block, norm)(x)))


def worked(block, x, norm="norm2"):
    """What the second half adds."""
    return block.drop_shortcut(block.ff(getattr(block, norm)(x)))


def normalised_afterwards(self, x):
    x = self.norm1(x + self.drop_shortcut(self.att(x)))
    return self.norm2(x + self.drop_shortcut(self.ff(x)))


WRONG_BLOCKS = {
    "normalised afterwards": normalised_afterwards,
    "no first shortcut": lambda s, x: (m := attended(s, x)) + worked(s, m),
    "no second shortcut": lambda s, x: worked(s, x + attended(s, x)),
    "one norm used twice": lambda s, x: (m := x + attended(s, x)) + worked(s, m, "norm1"),
    "norms swapped": lambda s, x: (m := x + attended(s, x, "norm2")) + worked(s, m, "norm1"),
    "feed forward from the input": lambda s, x: x + attended(s, x) + worked(s, x),
    "no dropout": lambda s, x: (m := x + s.att(s.norm1(x))) + s.ff(s.norm2(m)),
    "shortcut of the normalised input": normalised_shortcut,
    "dropout on the sum": lambda s, x: s.drop_shortcut(
        (m := s.drop_shortcut(x + s.att(s.norm1(x)))) + s.ff(s.norm2(m))),
    "dropout on what comes in": lambda s, x: (m := x + s.att(s.norm1(s.drop_shortcut(x)))) + s.ff(
        s.norm2(s.drop_shortcut(m))),
    "dropout on the shortcut": lambda s, x: (m := s.drop_shortcut(x) + s.att(s.norm1(x))) * 0 + s.drop_shortcut(
        m) + s.ff(s.norm2(m)),
}  # fmt: skip


def fixed(**changes):
    """A right block that takes no notice of an entry of its config."""
    return lambda cfg: Block({**cfg, **changes})


CASES = {
    "4.7": (
        (Block, ch04.TransformerBlock, CONFIG),
        {
            "the parts are missing": (lambda cfg: Block(cfg, "att ff norm1 norm2"), ch04.TransformerBlock, CONFIG),
            **{name: (block(forward), ch04.TransformerBlock, CONFIG) for name, forward in WRONG_BLOCKS.items()},
            "always the same rate": (fixed(drop_rate=0.4), ch04.TransformerBlock, CONFIG),
            "always GPT-2's context": (fixed(context_length=1024), ch04.TransformerBlock, CONFIG),
            "never a bias": (fixed(qkv_bias=False), ch04.TransformerBlock, CONFIG),
        },
    ),
    "4.1": (
        (count, FF, MHA),
        {
            "counts tensors": (lambda m: len(list(m.parameters())), FF, MHA),
            "only matrices": (lambda m: sum(p.numel() for p in m.parameters() if p.ndim == 2), FF, MHA),
            "frozen ones too": (lambda m: sum(p.numel() for p in m.parameters()), FF, MHA),
            "layer by layer, shared twice": (count_by_layers, FF, MHA),
            "first dimension only": (lambda m: sum(len(p) for p in m.parameters()), FF, MHA),
            "bytes": (lambda m: 4 * count(m), FF, MHA),
            "freezes what it counts": (lambda m: (count(m), m.requires_grad_(False))[0], FF, MHA),
        },
    ),
    "4.2": (
        (config, CONFIG),
        {
            "layers and heads swapped": (
                lambda n: config(n, {k: (d, h, layers) for k, (d, layers, h) in SIZES.items()}),
                CONFIG,
            ),
            "always medium": (lambda n: config("medium") if n in SIZES else config(n), CONFIG),
            "changes the one config": (config_in_place, CONFIG_COPY),
            "KeyError for unknown names": (lambda n: {**config("xl"), "emb_dim": SIZES[n][0]}, CONFIG),
            "another context": (lambda n: config(n, context_length=256), CONFIG),
            "a new entry": (lambda n: config(n, name=n), CONFIG),
            "only the three sizes": (lambda n: {k: config(n)[k] for k in ("emb_dim", "n_layers", "n_heads")}, CONFIG),
            "message without the names": (lambda n: config(n) if n in SIZES else config(n, {}), CONFIG),
        },
    ),
    "4.3": (
        (rates, MODEL),
        {
            "two swapped": (lambda c: rates(c, "drop_rate_shortcut", shortcut="drop_rate_emb"), MODEL),
            "one rate everywhere": (lambda c: rates(c, attn="drop_rate_emb", shortcut="drop_rate_emb"), MODEL),
            "first block only": (lambda c: rates(c, blocks=1), MODEL),
            "changes the caller's config": (rates_into_config, MODEL),
            "an additional layer": (rates_with_extra_layer, MODEL),
            "the old class unchanged": (lambda c: MODEL(c), MODEL),
            "in eval mode": (lambda c: rates(c).eval(), MODEL),
            "other entries forgotten": (lambda c: rates({**c, "qkv_bias": False, "tie_weights": False}), MODEL),
            "rates never set": (lambda c: MODEL({**c, "drop_rate": 0.1}), MODEL),
        },
    ),
    "4.4": (
        (lambda n, b=4: 4 * n * b / 1024**2,),
        {
            "weights only": (lambda n, b=4: n * b / 1024**2,),
            "without the second average": (lambda n, b=4: 3 * n * b / 1024**2,),
            "millions of bytes": (lambda n, b=4: 4 * n * b / 1e6,),
            "kibibytes": (lambda n, b=4: 4 * n * b / 1024,),
            "bytes per number ignored": (lambda n, b=4: 16 * n / 1024**2,),
            "rounded down": (lambda n, b=4: 4 * n * b // 1024**2,),
        },
    ),
    "4.5": (
        (until,),
        {
            "never stops": (lambda m, i, n, c, e: until(m, i, n, c, None),),
            "end token left out": (lambda m, i, n, c, e: until(m, i, n, c, e, keep=False),),
            "stops at the beginning's end token": (lambda m, i, n, c, e: until(m, i, n, c, e, look_first=True),),
            "text cut to the context": (lambda m, i, n, c, e: until(m, i, n, c, e, cut=True),),
            "context ignored": (lambda m, i, n, c, e: until(m, i, n, c, e, grow=True),),
            "one token too many": (lambda m, i, n, c, e: until(m, i, n + 1, c, e),),
            "switches to training": (lambda m, i, n, c, e: until(m.train(), i, n, c, e),),
            "new tokens only": (lambda m, i, n, c, e: until(m, i, n, c, e)[:, i.shape[1] :],),
        },
    ),
    "4.6": (
        (likeliest,),
        {
            "shares of the k": (renormalised,),
            "first position": (lambda x, k: likeliest(x[:, :1], k),),
            "overflows": (lambda x, k: (x[:, -1].exp() / x[:, -1].exp().sum(-1, keepdim=True)).topk(k)[::-1],),
            "probabilities first": (lambda x, k: likeliest(x, k)[::-1],),
            "unlikeliest": (lambda x, k: likeliest(-x, k),),
            "logits instead of probabilities": (lambda x, k: x[:, -1].topk(k).indices.contiguous() and None,),
            "in the order of the ids": (lambda x, k: (likeliest(x, k)[0].sort().values, likeliest(x, k)[1]),),
            "over the texts": (lambda x, k: torch.softmax(x[:, -1], dim=0).topk(k, dim=-1)[::-1],),
        },
    ),
}
