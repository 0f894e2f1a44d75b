"""Right and wrong answers to the exercises of chapter 3, for test_exercises.py."""

import math

import torch
from torch import nn

from shared.carry import load_chapter

ch03 = load_chapter("ch03_attention")
NAMES = ("W_query", "W_key", "W_value")
V1, V2 = ch03.SelfAttention_v1, ch03.SelfAttention_v2
WRAPPER, MHA = ch03.MultiHeadAttentionWrapper, ch03.MultiHeadAttention


def copy_weights(v2, v1, names=NAMES, transpose=True, share=False, plain=False):
    for name in names:
        weight = getattr(v2, name).weight
        weight = weight.T if transpose else weight
        if plain:
            del v1._parameters[name]
            setattr(v1, name, weight.detach().clone())
        elif share:
            setattr(v1, name, nn.Parameter(weight))
        else:
            setattr(v1, name, nn.Parameter(weight.detach().clone()))


def swapped(v2, v1):
    copy_weights(v2, v1)
    v1.W_query, v1.W_value = v1.W_value, v1.W_query


def the_other_way(v2, v1):
    with torch.no_grad():
        for name in NAMES:
            getattr(v2, name).weight.copy_(getattr(v1, name).T)


def wrapper(**changes):
    return lambda: WRAPPER(**{"d_in": 3, "d_out": 1, "context_length": 6, "dropout": 0.0, "num_heads": 2, **changes})


def gpt2(d_out=768, context=1024, dropout=0.0, heads=12, bias=False, d_in=768):
    return lambda: MHA(d_in, d_out, context, dropout, heads, bias)


def rows(scores, largest=lambda s: s.amax(dim=-1, keepdim=True), dim=-1):
    powers = (scores - largest(scores)).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


def in_place(scores):
    scores -= scores.amax(dim=-1, keepdim=True)
    return rows(scores)


def mask(n, window, above=1, below=0, keep=True):
    ones = torch.ones(n, n, dtype=torch.bool)
    hidden = ones.triu(above) | ones.tril(below - window) if keep else ones.triu(above)
    return hidden


def attend(query, keys, values, scale=math.sqrt, source=None):
    scores = keys @ query / scale(len(query))
    return torch.softmax(scores, dim=-1) @ (values if source is None else source)


CASES = {
    "3.1": (
        (copy_weights, V1, V2),
        {
            "not transposed": (lambda v2, v1: copy_weights(v2, v1, transpose=False), V1, V2),
            "shares memory": (lambda v2, v1: copy_weights(v2, v1, share=True), V1, V2),
            "only two of three": (lambda v2, v1: copy_weights(v2, v1, names=NAMES[:2]), V1, V2),
            "no longer parameters": (lambda v2, v1: copy_weights(v2, v1, plain=True), V1, V2),
            "query and value swapped": (swapped, V1, V2),
            "copies the other way": (the_other_way, V1, V2),
            "frozen": (lambda v2, v1: (copy_weights(v2, v1), v1.requires_grad_(False))[0], V1, V2),
            "does nothing": (lambda v2, v1: None, V1, V2),
        },
    ),
    "3.2": (
        (wrapper(), WRAPPER),
        {
            "unchanged": (wrapper(d_out=2), WRAPPER),
            "one head": (wrapper(d_out=2, num_heads=1), WRAPPER),
            "four heads of half a number": (wrapper(num_heads=4), WRAPPER),
            "with dropout": (wrapper(dropout=0.5), WRAPPER),
            "longer texts": (wrapper(context_length=60), WRAPPER),
            "with biases": (wrapper(qkv_bias=True), WRAPPER),
            "too short a context": (wrapper(context_length=2), WRAPPER),
            "the other class": (lambda: MHA(3, 2, 6, 0.0, 2), WRAPPER),
            "the class, not an object": (lambda: WRAPPER, WRAPPER),
        },
    ),
    "3.3": (
        (gpt2(), MHA),
        {
            "width of one head": (gpt2(d_out=64, heads=4), MHA),
            "context of one too many": (gpt2(context=1025), MHA),
            "short context": (gpt2(context=256), MHA),
            "with dropout": (gpt2(dropout=0.1), MHA),
            "heads of 12": (gpt2(heads=64), MHA),
            "with biases": (gpt2(bias=True), MHA),
            "the wrapper": (lambda: WRAPPER(768, 64, 1024, 0.0, 12), MHA),
        },
    ),
    "3.4": (
        (rows,),
        {
            "no shift": (lambda s: rows(s, largest=lambda s: 0),),
            "clamped": (lambda s: rows(s.clamp(-80, 80), largest=lambda s: 0),),
            "PyTorch's own": (lambda s: torch.softmax(s, dim=-1),),
            "PyTorch's own, by way of the logarithm": (lambda s: s.log_softmax(dim=-1).exp(),),
            "cut off from training": (lambda s: rows(s).detach(),),
            "one maximum for all": (lambda s: rows(s, largest=torch.max),),
            "along the first dimension": (lambda s: rows(s, dim=0),),
            "shifts the caller's scores": (in_place,),
            "divided by the sum of scores": (lambda s: s / s.sum(dim=-1, keepdim=True),),
            "only two dimensions": (lambda s: rows(s.flatten(0, -2)) if s.ndim > 1 else rows(s),),
            "not normalised": (lambda s: (s - s.amax(dim=-1, keepdim=True)).exp(),),
        },
    ),
    "3.5": (
        (mask,),
        {
            "hides the token itself": (lambda n, w: mask(n, w, above=0),),
            "window one too large": (lambda n, w: mask(n, w, below=-1),),
            "window one too small": (lambda n, w: mask(n, w, below=1),),
            "no window": (lambda n, w: mask(n, w, keep=False),),
            "True where it sees": (lambda n, w: ~mask(n, w),),
            "the future is seen": (lambda n, w: mask(n, w, above=2),),
            "numbers instead of bool": (lambda n, w: mask(n, w).float(),),
            "transposed": (lambda n, w: mask(n, w).T,),
        },
    ),
    "3.6": (
        (attend,),
        {
            "not scaled": (lambda q, k, v: attend(q, k, v, scale=lambda n: 1),),
            "no shift": (lambda q, k, v: (w := (k @ q / math.sqrt(len(q))).exp()) @ v / w.sum(),),
            "scaled by K": (lambda q, k, v: attend(q, k, v, scale=lambda n: n),),
            "averages the keys": (lambda q, k, v: attend(q, k, v, source=k),),
            "no softmax": (lambda q, k, v: (k @ q / math.sqrt(len(q))) @ v,),
            "plain average": (lambda q, k, v: v.mean(dim=0),),
            "without the newest token": (lambda q, k, v: attend(q, k[:-1], v[:-1]),),
            "one row too many": (lambda q, k, v: attend(q, k, v)[None],),
        },
    ),
}
