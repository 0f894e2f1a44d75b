"""Checks of the exercises of chapter 5."""

import math

import torch

from shared.exercises import claim, close, exercise


@exercise("5.7")
def unigram_baseline(unigram_loss):
    def number(value):
        claim(isinstance(value, (int, float)) or torch.is_tensor(value), "the loss is a number")
        return torch.as_tensor(float(value))

    by_hand = (-math.log(3 / 6) - math.log(1 / 6)) / 2
    close(number(unigram_loss([0, 0, 1], [0, 2], 3)), number(by_hand), "the example worked by hand comes out")
    knows_nothing = number(unigram_loss([], [0, 1], 8))
    close(knows_nothing, number(math.log(8)), "without training text all tokens are equally likely")
    generator = torch.Generator().manual_seed(1)
    train, held_out = (torch.randint(0, 40, (n,), generator=generator).tolist() for n in (300, 70))
    counts = [train.count(token) + 1 for token in range(50)]
    want = -sum(math.log(counts[token] / sum(counts)) for token in held_out) / len(held_out)
    close(number(unigram_loss(train, held_out, 50)), number(want), "it is right for longer texts")
