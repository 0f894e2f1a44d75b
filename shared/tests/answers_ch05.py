"""Right and wrong answers to the exercises of chapter 5, for test_exercises.py."""

import math
from collections import Counter


def unigram_loss(train, held_out, size, raise_by=1, denominator=None, base=math.e, sign=-1, mean=True):
    counts = Counter(train)
    total = denominator(train, size) if denominator else len(train) + raise_by * size
    logs = [math.log((counts[token] + raise_by) / total, base) for token in held_out]
    return sign * sum(logs) / (len(held_out) if mean else 1)


CASES = {
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
