"""What the course's small pretrained model can do, and what it costs.

    python3 -m shared.tests.bench_small_model ngrams DATA    held-out perplexity of a unigram and of an interpolated
                                                             trigram model, counted on the model's training texts
    COURSE_DATA=folder python3 -m shared.tests.bench_small_model features    accuracy on the SMS test split of a linear
                                                             classifier on the model's last-token features, and on
                                                             those of random weights
    python3 -m shared.tests.bench_small_model load           seconds and peak memory of loading it (Linux only)

DATA is a folder made by `train.py prepare`. For the model's own held-out loss: `train.py measure 13M DATA`.
"""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from shared.course import ROOT

VOCAB_SIZE = 50_257


def tokens(data, part):
    return np.concatenate([np.fromfile(path, dtype="<u2") for path in sorted(Path(data).glob(f"{part}_*.bin"))])


def counts_of(keys, wanted):
    """How often each of ``wanted`` occurs in ``keys``."""
    values, counts = np.unique(keys, return_counts=True)
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[places] == wanted, counts[places], 0)


def ngram_probabilities(train, text):
    """Probabilities (n - 2, 4) of each token of ``text`` but the first two: uniform, and 1-, 2- and 3-gram shares.

    Where a context was never seen, the share in the next shorter one stands in, so every column is a distribution.
    """
    train, text = train.astype(np.int64), text.astype(np.int64)
    columns = [np.full(len(text) - 2, 1 / VOCAB_SIZE)]
    key, wanted = np.zeros(len(train), dtype=np.int64), np.zeros(len(text), dtype=np.int64)
    for n in (1, 2, 3):
        # Keys of n tokens, and of the n - 1 before the last one.
        long = key[: len(train) - n + 1] * VOCAB_SIZE + train[n - 1 :]
        long_wanted = wanted[: len(text) - n + 1] * VOCAB_SIZE + text[n - 1 :]
        start = 3 - n
        contexts = counts_of(key[: len(long)], wanted[start : start + len(text) - 2])
        hits = counts_of(long, long_wanted[start : start + len(text) - 2])
        columns.append(np.where(contexts > 0, hits / np.maximum(contexts, 1), columns[-1]))
        key, wanted = long, long_wanted
    return np.stack(columns, axis=1)


def mixture(probabilities, rounds=60):
    """Weights of the columns that make the data likeliest, by expectation maximisation."""
    weights = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(rounds):
        shares = probabilities * weights
        weights = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights


def ngrams(data):
    """Perplexities. The weights of the mixtures are fitted on the last tenth of the training texts, not on the test."""
    train, held_out = tokens(data, "train"), tokens(data, "held_out")
    cut = len(train) * 9 // 10
    fitted, tested = ngram_probabilities(train[:cut], train[cut:]), ngram_probabilities(train, held_out)
    for name, n_columns in (("unigram", 2), ("interpolated trigram", 4)):
        weights = mixture(fitted[:, :n_columns])
        loss = -np.log(tested[:, :n_columns] @ weights).mean()
        print(f"{name}: loss {loss:.4f}, perplexity {math.exp(loss):.1f} (weights {np.round(weights, 3).tolist()})")


DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def features():
    """Test accuracy of logistic regression on the last token's features, of the model and of random weights.

    Once with the messages as they are, and once with an empty line after each, which is how a paragraph ends in the
    books. The weight decay is chosen by cross-validation on the other four fifths, the test split is used once.
    """
    import csv

    import pandas as pd
    import torch

    from shared.assets import fetch, use_offline_vocabulary
    from shared.carry import load_chapter

    use_offline_vocabulary()
    import tiktoken

    ch05 = load_chapter("ch05_pretraining")
    tokenizer = tiktoken.get_encoding("gpt2")
    table = pd.read_csv(fetch("SMSSpamCollection").path, sep="\t", header=None, names=["label", "text"],
                        quoting=csv.QUOTE_NONE)  # fmt: skip
    spam = table[table.label == "spam"]
    ham = table[table.label == "ham"].sample(len(spam), random_state=123)
    table = pd.concat([ham, spam]).sample(frac=1, random_state=123)
    n_known = int(0.7 * len(table)) + int(0.1 * len(table))     # chapter 6's training and validation messages
    labels = torch.tensor((table.label == "spam").to_numpy(), dtype=torch.float32)
    settings, params = ch05.download_and_load_gpt2("13M", "gpt2")
    cfg = ch05.config_of(settings)
    torch.manual_seed(123)
    random, pretrained = ch05.GPTModel(cfg), ch05.GPTModel(cfg)
    ch05.load_weights_into_gpt(pretrained, params)
    for name, model in (("pretrained", pretrained), ("random weights", random)):
        for what, ending in (("as they are", ""), ("and an empty line", "\n\n")):
            rows, end = [], tokenizer.encode(ending)
            with ch05.eval_mode(model):
                for text in table.text:
                    ids = tokenizer.encode(text)[: cfg["context_length"] - len(end)] + end
                    rows.append(model.features(torch.tensor([ids]))[0, -1])
            x = torch.stack(rows)
            x = (x - x[:n_known].mean(0)) / x[:n_known].std(0)
            fold = torch.arange(n_known) % 5
            scores = {}
            for decay in DECAYS:
                scores[decay] = np.mean([accuracy(x[:n_known], labels[:n_known], fold != k, decay) for k in range(5)])
            best = max(scores, key=scores.get)
            test = accuracy(x, labels, torch.arange(len(x)) < n_known, best)
            print(f"{name}, messages {what}: test {test:.4f} of {len(table) - n_known} messages; cross-validation "
                  f"{scores[best]:.4f} at decay {best:g}", flush=True)  # fmt: skip


def accuracy(x, labels, fitted, decay):
    """Share of right answers of a logistic regression on the rows where ``fitted`` is False."""
    import torch

    weight, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200)

    def closure():
        optimizer.zero_grad()
        logits = x[fitted] @ weight + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[fitted])
        loss = loss + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    right = (x[~fitted] @ weight + bias > 0) == (labels[~fitted] > 0.5)
    return right.float().mean().item()


LOAD = """
import time
import torch
from shared.carry import load_chapter
ch05 = load_chapter("ch05_pretraining")
def status(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1]) / 1e3
open("/proc/self/clear_refs", "w").write("5")      # the peak from here on
before, start = status("VmRSS"), time.perf_counter()
settings, params = ch05.download_and_load_gpt2("13M", "gpt2")
model = ch05.GPTModel(ch05.config_of(settings))
ch05.load_weights_into_gpt(model, params)
seconds = time.perf_counter() - start
size = sum(parameter.numel() * 4 for parameter in model.parameters()) / 1e6
print(f"{seconds:.2f} s, peak {status('VmHWM') - before:.0f} MB for {size:.0f} MB of weights: "
      f"{(status('VmHWM') - before) / size:.2f} x")
"""


def load():
    """Seconds and peak resident memory, each in a process of its own: first with an empty cache, then unpacked."""
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        for what in ("unpacking", "from the cache"):
            environment = {**os.environ, "COURSE_CACHE": cache, "COURSE_OFFLINE": "1"}
            command = [sys.executable, "-c", LOAD]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            print(f"{what}: {done.stdout.strip()}")


if __name__ == "__main__":
    {"ngrams": ngrams, "features": features, "load": load}[sys.argv[1]](*sys.argv[2:])
