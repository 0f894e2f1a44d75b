"""Checks of the exercises of chapter 6."""

import math

import torch
from torch import nn

from shared.exercises import claim, close, exercise, must_raise, same

PAD = 50256


class TinyClassifier(nn.Module):
    """The parts of a classifier by the names of the course's GPTModel, with sizes that can be counted by hand."""

    def __init__(self, n_blocks=1):
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(50, 4), nn.Embedding(10, 4)
        self.trf_blocks = nn.Sequential(*[nn.Linear(4, 60) for _ in range(n_blocks)])
        self.final_norm, self.out_head = nn.LayerNorm(4), nn.Linear(4, 2)

    def features(self, ids):
        """(B, T, 4): at each position the sum of what stands up to there, so that every position differs."""
        return self.tok_emb(ids % 50).cumsum(dim=1) + self.pos_emb.weight[: ids.shape[1]]

    def forward(self, ids):
        return self.out_head(self.features(ids))


def tiny(n_blocks=1):
    torch.manual_seed(0)
    return TinyClassifier(n_blocks)


@exercise("6.1")
def rows_filled_up(pad_to):
    given = torch.tensor([[5, 6], [7, PAD]])
    before = given.clone()
    want = torch.tensor([[5, 6, PAD, PAD], [7, PAD, PAD, PAD]])
    got = pad_to(given, 4)
    close(got, want, "the example worked by hand comes out")
    same(str(got.dtype), "torch.int64", "the ids stay whole numbers")
    close(given, before, "the batch that was given is left alone")
    close(pad_to(given, 2), given, "a length that fits already changes nothing")
    close(pad_to(given, 3, 0), torch.tensor([[5, 6, 0], [7, PAD, 0]]), "the padding token is the one that is passed")
    close(pad_to(torch.tensor([[1, 2, 3]]), 5)[:, :3], torch.tensor([[1, 2, 3]]), "the ids stand on the left")
    must_raise(ValueError, "a length below that of the rows raises ValueError", pad_to, given, 1)
    must_raise(ValueError, "a length of 0 raises ValueError", pad_to, torch.empty(2, 0, dtype=torch.int64), 0)


def _learning(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@exercise("6.2")
def parts_that_learn(choose_trainable):
    counts = {"head": 10, "last block": 318, "no embeddings": 318, "all": 558}
    for what, want in counts.items():
        same(choose_trainable(tiny(), what), want, f"with {what!r} as many parameters learn as in the example by hand")
    model = tiny(3)
    sizes = {"all": 2 * 300 + 558, "head": 10, "no embeddings": 2 * 300 + 318, "last block": 318}
    for what, want in sizes.items():
        same(choose_trainable(model, what), want, f"with three blocks, {what!r} counts right whatever was set before")
    learning = _learning(model)
    last = "trf_blocks.2.weight" in learning and "trf_blocks.0.weight" not in learning
    claim(last, "the last block is the one before the final norm")
    claim("final_norm.weight" in learning, "with 'last block', the final norm learns too")
    choose_trainable(model, "head")
    same(sorted(_learning(model)), ["out_head.bias", "out_head.weight"], "requires_grad is set, and not only counted")
    must_raise(ValueError, "another word raises ValueError", choose_trainable, model, "everything")
    same(sorted(_learning(model)), ["out_head.bias", "out_head.weight"], "a wrong word changes nothing")


@exercise("6.3")
def read_somewhere(pooled_logits):
    model = tiny()
    ids = torch.tensor([[5, 6, PAD], [7, PAD, PAD], [1, 2, 3]])
    every = model(ids)
    rows = torch.arange(3)
    for where, columns in (("first", [0, 0, 0]), ("last column", [2, 2, 2]), ("last real", [1, 0, 2])):
        got = pooled_logits(model, ids, where)
        close(got, every[rows, torch.tensor(columns)], f"{where!r} reads the columns {columns} of the three rows")
    claim(pooled_logits(model, ids, "last real").requires_grad, "the scores have a gradient, for training")
    zeros = torch.tensor([[5, 0, 0], [7, 8, 0]])
    close(pooled_logits(model, zeros, "last real", 0), model(zeros)[torch.arange(2), torch.tensor([0, 1])],
          "the padding token is the one that is passed")  # fmt: skip
    must_raise(ValueError, "another place raises ValueError", pooled_logits, model, ids, "middle")


@exercise("6.4")
def copies_but_for_numbers(near_copies):
    train = ["WIN 100 now!", "See you at 7", "a  b\tc"]
    by_hand = near_copies(train, ["win 250, now", "Win it now"])
    same(list(by_hand), [True, False], "the example worked by hand comes out")
    same(list(near_copies(train, ["see you AT 8:30?", "see you", "at you see"])), [True, False, False],
         "the words must be the same, all of them and in the same order")  # fmt: skip
    same(list(near_copies(train, ["A b c", "a b", "ab c"])), [True, False, False], "white space is only a border")
    same(list(near_copies(["...", "12 30"], ["12:30", "!!"])), [False, False], "where nothing is left, it is no copy")
    same(list(near_copies(["Gänse_füße 3"], ["gänse füße", "g nse f e"])), [True, False],
         "letters of all languages count, and _ does not")  # fmt: skip
    same(list(near_copies(["x"], [])), [], "no test texts give an empty list")
    same(list(near_copies([], ["x"])), [False], "without training texts nothing is a copy")


@exercise("6.5")
def where_to_draw_the_line(lowest_threshold):
    p, spam = torch.tensor([0.9, 0.8, 0.6, 0.4]), torch.tensor([True, False, True, True])
    got = lowest_threshold(p, spam, 0.75)
    claim(isinstance(got, float), "the threshold is a float")
    claim(math.isclose(got, 0.4, abs_tol=1e-6), "in the example by hand it is 0.4 for a precision of 0.75")
    claim(math.isclose(lowest_threshold(p, spam, 0.8) or 0, 0.9, abs_tol=1e-6), "and 0.9 for a precision of 0.8")
    order = torch.tensor([2, 0, 3, 1])
    claim(math.isclose(lowest_threshold(p[order], spam[order], 0.8) or 0, 0.9, abs_tol=1e-6),
          "the order of the messages does not matter")  # fmt: skip
    claim(lowest_threshold(torch.tensor([0.9, 0.5]), torch.tensor([False, True]), 0.9) is None,
          "None if no threshold is good enough")  # fmt: skip
    same_p = lowest_threshold(torch.tensor([0.7, 0.7, 0.9]), torch.tensor([True, False, True]), 0.9)
    claim(math.isclose(same_p or 0, 0.9, abs_tol=1e-6), "messages of equal probability are called together")
    half = lowest_threshold(torch.tensor([0.9, 0.2, 0.6]), torch.tensor([True, False, False]), 0.5)
    claim(math.isclose(half or 0, 0.6, abs_tol=1e-6), "a precision that is reached exactly is enough")
    claim(lowest_threshold(torch.tensor([0.9]), torch.tensor([False]), 0.5) is None, "without spam there is none")
    claim(lowest_threshold(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([False, True, False]), 0.6) is None,
          "the precision is a share of the messages called spam, not of all messages")  # fmt: skip


@exercise("6.6")
def what_the_mixture_does(precision_at):
    def near(got, want, words):
        claim(isinstance(got, float) and math.isclose(got, want, abs_tol=1e-9), f"{words}. Yours gave {got!r}")

    near(precision_at(0.5, 0.9, 0.1), 0.9, "half spam, recall 0.9, false alarms 0.1 give 0.9")
    near(precision_at(0.1, 0.9, 0.1), 0.5, "with a tenth of spam it is 0.5")
    near(precision_at(0.2, 0.5, 0.05), 0.1 / 0.14, "recall and false alarms do not add up to 1")
    near(precision_at(0.3, 0.8, 0.0), 1.0, "without false alarms it is 1")
    near(precision_at(0.0, 0.8, 0.1), 0.0, "without spam everything that is called spam is a false alarm")
    near(precision_at(1.0, 0.8, 0.1), 1.0, "without ham nothing can be a false alarm")
    claim(math.isnan(precision_at(0.4, 0.0, 0.0)), "it is NaN if nothing is called spam")
    claim(math.isnan(precision_at(0.0, 0.8, 0.0)), "it is NaN if there is no spam and no false alarm")
    must_raise(ValueError, "a share above 1 raises ValueError", precision_at, 13.4, 0.9, 0.1)
    must_raise(ValueError, "a share below 0 raises ValueError", precision_at, 0.5, 0.9, -0.1)
    must_raise(ValueError, "a recall above 1 raises ValueError", precision_at, 0.5, 95, 0.1)
