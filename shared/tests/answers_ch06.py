"""Right and wrong answers to the exercises of chapter 6, for test_exercises.py."""

import math
import re

import torch

PAD = 50256


def pad_to(ids, length, pad_token_id=PAD, left=False, check=True):
    if check and not 1 <= ids.shape[1] <= length:
        raise ValueError(f"rows of {ids.shape[1]} cannot be filled up to {length}")
    more = ids.new_full((len(ids), max(0, length - ids.shape[1])), pad_token_id)
    return torch.cat([more, ids] if left else [ids, more], dim=1)


def cuts(ids, length, pad_token_id=PAD):
    return pad_to(ids[:, :length], length, pad_token_id) if length else ids


def in_place(ids, length, pad_token_id=PAD):
    out = pad_to(ids, length, pad_token_id)
    ids.fill_(0)
    return out


def longer(ids, length, pad_token_id=PAD):
    return pad_to(ids, ids.shape[1] + length, pad_token_id)


def choose_trainable(model, what, parts=None, reset=True, early=True, norm=True):
    learning = {
        "head": [model.out_head],
        "last block": [model.out_head, model.trf_blocks[-1], *([model.final_norm] if norm else [])],
        "no embeddings": [model.out_head, model.trf_blocks, model.final_norm],
        "all": [model],
    } | (parts(model) if parts else {})
    if early and what not in learning:
        raise ValueError(f"unknown: {what!r}")
    if reset:
        for parameter in model.parameters():
            parameter.requires_grad = False
    if what not in learning:
        raise ValueError(f"unknown: {what!r}")
    for part in learning[what]:
        for parameter in part.parameters():
            parameter.requires_grad = True
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def only_counts(model, what):
    before = [p.requires_grad for p in model.parameters()]
    n = choose_trainable(model, what)
    for parameter, flag in zip(model.parameters(), before):
        parameter.requires_grad = flag
    return n


def anything_is_all(model, what):
    return choose_trainable(model, what if what in ("head", "last block", "no embeddings") else "all")


def pooled_logits(model, ids, where, pad_token_id=PAD, real=None, known=("first", "last column", "last real")):
    if where not in known:
        raise ValueError(f"unknown place {where!r}")
    n = (ids != pad_token_id).sum(dim=1)
    columns = {"first": torch.zeros_like(n), "last column": torch.full_like(n, ids.shape[1] - 1),
               "last real": real(n) if real else n - 1}[where]  # fmt: skip
    return model.out_head(model.features(ids)[torch.arange(len(ids)), columns])


def otherwise_last(model, ids, where, pad_token_id=PAD):
    return pooled_logits(model, ids, where if where in ("first", "last column") else "last real", pad_token_id)


def mean_pooled(model, ids, where, pad_token_id=PAD):
    if where == "last real":
        return model.out_head(model.features(ids).mean(dim=1))
    return pooled_logits(model, ids, where, pad_token_id)


def whole_head(model, ids, where, pad_token_id=PAD):
    return model(ids)[:, {"first": 0, "last column": -1, "last real": -1}[where]]


def letters(text, pattern=r"[\W\d_]+", lower=True):
    return " ".join(re.sub(pattern, " ", text.lower() if lower else text).split())


def near_copies(train_texts, test_texts, key=letters):
    known = {key(text) for text in train_texts} - {""}
    return [key(text) in known for text in test_texts]


def lowest_threshold(probabilities, is_spam, least_precision, above=False, exactly=True, order=sorted, none=None):
    for t in order(set(probabilities.tolist())):
        called = probabilities > t if above else probabilities >= t
        if called.any():
            precision = is_spam[called].double().mean().item()
            if precision >= least_precision if exactly else precision > least_precision:
                return t
    return none


def one_by_one(probabilities, is_spam, least_precision):
    """Equal probabilities are separated by their place."""
    order = probabilities.argsort(descending=True, stable=True)
    best = None
    for n in range(1, len(order) + 1):
        if is_spam[order[:n]].double().mean() >= least_precision:
            best = probabilities[order[n - 1]].item()
    return best


def stops_at_the_first_miss(probabilities, is_spam, least_precision):
    best = None
    for t in sorted(set(probabilities.tolist()), reverse=True):
        if is_spam[probabilities >= t].double().mean() < least_precision:
            break
        best = t
    return best


def false_alarms_of_all(probabilities, is_spam, least_precision):
    for threshold in sorted(probabilities.tolist()):
        called = probabilities >= threshold
        if (called & ~is_spam).sum().item() / len(probabilities) <= 1 - least_precision:
            return threshold
    return None


def accuracy_instead(probabilities, is_spam, least_precision):
    for t in sorted(probabilities.tolist()):
        if ((probabilities >= t) == is_spam).double().mean() >= least_precision:
            return t
    return None


def precision_at(spam_share, recall, false_alarm_rate, check=True, nan=math.nan):
    if check and not all(0 <= x <= 1 for x in (spam_share, recall, false_alarm_rate)):
        raise ValueError("shares lie between 0 and 1")
    found, false = spam_share * recall, (1 - spam_share) * false_alarm_rate
    return found / (found + false) if found + false else nan


CASES = {
    "6.1": (
        (pad_to,),
        {
            "on the left": (lambda ids, n, pad=PAD: pad_to(ids, n, pad, left=True),),
            "cuts what is too long": (cuts,),
            "in place": (in_place,),
            "as many more as the length": (longer,),
            "token ignored": (lambda ids, n, pad=PAD: pad_to(ids, n),),
            "floats": (lambda ids, n, pad=PAD: pad_to(ids, n, pad).float(),),
            "no check": (lambda ids, n, pad=PAD: pad_to(ids, n, pad, check=False),),
            "zeros": (lambda ids, n, pad=0: pad_to(ids, n, pad),),
        },
    ),
    "6.2": (
        (choose_trainable,),
        {
            "flags from before stay": (lambda m, w: choose_trainable(m, w, reset=False),),
            "first block": (lambda m, w: choose_trainable(m, w, lambda m: {
                "last block": [m.out_head, m.trf_blocks[0], m.final_norm]}),),
            "final norm forgotten": (lambda m, w: choose_trainable(m, w, norm=False),),
            "counts without setting": (only_counts,),
            "any other word is all": (anything_is_all,),
            "changed before the word is looked up": (lambda m, w: choose_trainable(m, w, early=False),),
            "positions learn too": (lambda m, w: choose_trainable(m, w, lambda m: {
                "no embeddings": [m.out_head, m.trf_blocks, m.final_norm, m.pos_emb]}),),
            "counts all": (lambda m, w: (choose_trainable(m, w), sum(p.numel() for p in m.parameters()))[1],),
        },
    ),
    "6.3": (
        (pooled_logits,),
        {
            "one too far": (lambda *a: pooled_logits(*a, real=lambda n: n.clamp(max=2)),),
            "one too early": (lambda *a: pooled_logits(*a, real=lambda n: (n - 2).clamp(min=0)),),
            "last real is the last column": (whole_head,),
            "any other word is last real": (otherwise_last,),
            "mean": (mean_pooled,),
            "without gradient": (lambda *a: pooled_logits(*a).detach(),),
            "padding token ignored": (lambda m, ids, w, pad=PAD: pooled_logits(m, ids, w),),
            "first and last swapped": (lambda m, ids, w, pad=PAD: pooled_logits(
                m, ids, {"first": "last column", "last column": "first"}.get(w, w), pad),),
        },
    ),
    "6.4": (
        (near_copies,),
        {
            "exact copies": (lambda a, b: [text in set(a) for text in b],),
            "case counts": (lambda a, b: near_copies(a, b, lambda text: letters(text, lower=False)),),
            "digits count": (lambda a, b: near_copies(a, b, lambda text: letters(text, r"[\W_]+")),),
            "bags of words": (lambda a, b: near_copies(a, b, lambda text: " ".join(sorted(letters(text).split()))),),
            "white space ignored": (lambda a, b: near_copies(a, b, lambda text: letters(text).replace(" ", "")),),
            "English letters only": (lambda a, b: near_copies(a, b, lambda text: letters(text, "[^a-z]+")),),
            "nothing is a copy of nothing": (lambda a, b: [letters(t) in {letters(x) for x in a} for t in b],),
            "the other way round": (lambda a, b: near_copies(b, a),),
            "underscore is a letter": (lambda a, b: near_copies(a, b, lambda text: letters(text, r"[\W\d]+")),),
        },
    ),
    "6.5": (
        (lowest_threshold,),
        {
            "above instead of from": (lambda *a: lowest_threshold(*a, above=True),),
            "more than the precision": (lambda *a: lowest_threshold(*a, exactly=False),),
            "highest": (lambda *a: lowest_threshold(*a, order=lambda x: sorted(x, reverse=True)),),
            "infinity instead of None": (lambda *a: lowest_threshold(*a, none=math.inf),),
            "equal ones separated": (one_by_one,),
            "stops at the first miss": (stops_at_the_first_miss,),
            "accuracy": (accuracy_instead,),
            "false alarms of all messages": (false_alarms_of_all,),
            "a tensor": (lambda *a: None if (t := lowest_threshold(*a)) is None else torch.tensor(t),),
        },
    ),
    "6.6": (
        (precision_at,),
        {
            "mixture ignored": (lambda s, r, f: precision_at(0.5, r, f) + 0 * precision_at(s, r, f),),
            "recall": (lambda s, r, f: float(r) + 0 * precision_at(s, r, f),),
            "missed instead of false alarms": (lambda s, r, f: precision_at(s, r, 1 - r),),
            "shares not checked": (lambda s, r, f: precision_at(s, r, f, check=False),),
            "zero instead of NaN": (lambda s, r, f: precision_at(s, r, f, nan=0.0),),
            "divides by 0": (lambda s, r, f: precision_at(s, r, f) if s * r + (1 - s) * f else 1 / 0,),
            "per cent": (lambda s, r, f: 100 * precision_at(s, r, f),),
            "false alarms of all messages": (lambda s, r, f: precision_at(s, r, f) and s * r / (s * r + f),),
        },
    ),
}
