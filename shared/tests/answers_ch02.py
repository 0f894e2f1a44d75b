"""Right and wrong answers to the exercises of chapter 2, for test_exercises.py."""

import math
import re

import tiktoken
import torch

BORDER = re.compile(r'([,.:;?_!"()\']|--|\s)')
END = 50_256


def gpt2():
    return tiktoken.get_encoding("gpt2")


def alone(ids):
    return [(i, gpt2().decode([i])) for i in ids]


def batch(txt, length, stride, first=0, shift=1, wide=0):
    ids = gpt2().encode(txt)
    starts = [first + i * (stride + wide) for i in range(4)]
    inputs = torch.tensor([ids[i : i + length] for i in starts])
    return inputs, torch.tensor([ids[i + shift : i + shift + length] for i in starts])


def good_batch(txt, length, stride):
    return batch(txt, length, stride)


def shared_tokens(length, stride):
    return max(0, length - stride)


def embed(ids, token_weight, pos_weight):
    if ids.shape[1] > len(pos_weight):
        raise ValueError(f"{ids.shape[1]} tokens, {len(pos_weight)} positions")
    return token_weight[ids] + pos_weight[: ids.shape[1]]


def embed_in_place(ids, token_weight, pos_weight):
    result = embed(ids, token_weight, pos_weight)
    token_weight *= 0
    return result


def embed_always_row_zero(ids, token_weight, pos_weight):
    return embed(ids, token_weight, pos_weight[:1].expand_as(pos_weight))


def embed_silent(ids, token_weight, pos_weight):
    length = min(ids.shape[1], len(pos_weight))
    return token_weight[ids[:, :length]] + pos_weight[:length]


def packed(documents, before=False, last=True, between_text=False, allowed=False):
    ids = []
    for text in documents:
        inside = gpt2().encode(text, **({"allowed_special": "all"} if allowed else {"disallowed_special": ()}))
        ids += [END, *inside] if before else [*inside, END]
    if between_text:
        return gpt2().encode("<|endoftext|>".join(documents), allowed_special="all") + [END] * bool(documents)
    return ids if last else ids[:-1]


# Exercise -> its solution(s), then wrong answers with what is wrong with them.
CASES = {
    "2.1": (
        (lambda text: alone(gpt2().encode(text)),),
        {
            "only the ids": (lambda text: gpt2().encode(text),),
            "pieces before ids": (lambda text: [(piece, i) for i, piece in alone(gpt2().encode(text))],),
            "encodes letter by letter": (lambda text: [p for c in text for p in alone(gpt2().encode(c))],),
            "encodes word by word": (lambda text: [p for w in text.split() for p in alone(gpt2().encode(w))],),
            "strips the pieces": (lambda text: [(i, piece.strip()) for i, piece in alone(gpt2().encode(text))],),
            "line by line": (lambda text: [p for line in text.splitlines() for p in alone(gpt2().encode(line))],),
            "at most six pieces": (lambda text: alone(gpt2().encode(text))[:6],),
            "only for the example": (lambda text: alone([33901, 86, 343, 86, 220, 959]),),
            "a dict loses the second w": (lambda text: list(dict(alone(gpt2().encode(text))).items()),),
            "returns nothing": (lambda text: None,),
        },
    ),
    "2.2": (
        (good_batch, shared_tokens),
        {
            "targets not shifted": (lambda t, n, s: batch(t, n, s, shift=0), shared_tokens),
            "targets shifted by two": (lambda t, n, s: batch(t, n, s, shift=2), shared_tokens),
            "stride off by one": (lambda t, n, s: batch(t, n, s, wide=1), shared_tokens),
            "starts at the second row": (lambda t, n, s: batch(t, n, s, first=s), shared_tokens),
            "shuffled": (lambda t, n, s: tuple(x[[2, 0, 3, 1]] for x in batch(t, n, s)), shared_tokens),
            "only the inputs": (lambda t, n, s: batch(t, n, s)[0], shared_tokens),
            "another text": (lambda t, n, s: batch("The lamp went out. " * 9, n, s), shared_tokens),
            "32-bit ids": (lambda t, n, s: tuple(x.int() for x in batch(t, n, s)), shared_tokens),
            "negative overlap": (good_batch, lambda n, s: n - s),
            "overlap counts the stride": (good_batch, lambda n, s: min(n, s)),
            "overlap off by one": (good_batch, lambda n, s: max(0, n - s + 1)),
        },
    ),
    "2.3": (
        (lambda text: [item for item in BORDER.split(text) if item],),
        {
            "drops white space": (lambda text: [item for item in BORDER.split(text) if item.strip()],),
            "keeps empty strings": (lambda text: BORDER.split(text),),
            "few separators": (lambda text: [t for t in re.split(r'([,."]|--|\s)', text) if t],),
            "tabs stay inside": (lambda text: [t for t in re.split(r'([,.:;?_!"()\']|--|[ \n\r\x0c])', text) if t],),
            "one character each": (lambda text: list(text),),
            "the whole text": (lambda text: [text] if text else [],),
            "splits at spaces only": (lambda text: [item for item in re.split(r"(\s)", text) if item],),
            "cuts the dash in two": (lambda text: [t for t in re.split(r'([-,.:;?_!"()\']|\s)', text) if t],),
            "no capture group": (lambda text: [t for t in re.split(r"[,.\s]", text) if t],),
            "an iterator": (lambda text: (t for t in BORDER.split(text) if t),),
        },
    ),
    "2.4": (
        (packed,),
        {
            "separator in front": (lambda documents: packed(documents, before=True),),
            "none after the last": (lambda documents: packed(documents, last=False),),
            "a document can end itself": (lambda documents: packed(documents, allowed=True),),
            "joined as text": (lambda documents: packed(documents, between_text=True),),
            "no separator": (lambda documents: [i for i in packed(documents) if i != END],),
            "off by one id": (lambda documents: [i + (i == END) for i in packed(documents)],),
            "strips the documents": (lambda documents: packed([text.strip() for text in documents]),),
            "each document once": (lambda documents: packed(list(dict.fromkeys(documents))),),
            "a list per document": (lambda documents: [packed([text]) for text in documents],),
            "skips empty documents": (lambda documents: packed([text for text in documents if text]),),
            "empties the caller's list": (lambda documents: packed([documents.pop(0) for _ in list(documents)]),),
        },
    ),
    "2.5": (
        (lambda n, length, stride: max(0, -(-(n - length) // stride)),),
        {
            "rounds down": (lambda n, length, stride: max(0, (n - length) // stride),),
            "always one more": (lambda n, length, stride: max(0, (n - length) // stride + 1),),
            "forgets the target": (lambda n, length, stride: max(0, math.ceil((n - length + 1) / stride)),),
            "negative for short texts": (lambda n, length, stride: math.ceil((n - length) / stride),),
            "ignores the stride": (lambda n, length, stride: max(0, n - length),),
            "divides the text": (lambda n, length, stride: n // stride,),
            "a fraction": (lambda n, length, stride: max(0, n - length) / stride,),
            "a float": (lambda n, length, stride: float(max(0, math.ceil((n - length) / stride))),),
        },
    ),
    "2.6": (
        (embed,),
        {
            "no positions": (lambda ids, t, p: t[ids],),
            "position from the id": (lambda ids, t, p: t[ids] + p[ids.clamp(max=len(p) - 1)],),
            "same position everywhere": (embed_always_row_zero,),
            "cuts what is too long": (embed_silent,),
            "multiplies": (lambda ids, t, p: t[ids] * p[: ids.shape[1]],),
            "spoils the weight": (embed_in_place,),
            "limit of eight": (lambda ids, t, p: embed(ids, t, p if ids.shape[1] > 7 else p.repeat(3, 1)),),
            "cut off from training": (lambda ids, t, p: embed(ids, t, p).detach(),),
            "positions backwards": (lambda ids, t, p: embed(ids, t, p.flip(0)),),
            "full length refused": (lambda ids, t, p: embed(ids, t, p[:-1]) if ids.shape[1] > 4 else embed(ids, t, p),),
            "too long is no ValueError": (lambda ids, t, p: t[ids] + p[: ids.shape[1]],),
            "sums the text up": (lambda ids, t, p: embed(ids, t, p).sum(dim=1),),
        },
    ),
}
