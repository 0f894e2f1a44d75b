"""Measures what chapter 6 and appendix E say about speed and memory: commands, because it depends on the machine.

    COURSE_DATA=folder python3 -m shared.tests.bench_ch06 lengths    an epoch of last-block tuning with every row padded
                                                                     to the longest message, against batches of similar
                                                                     length; accuracies of both, alternating
    COURSE_DATA=folder python3 -m shared.tests.bench_ch06 steps      a step of last-block tuning, of LoRA and of full
                                                                     tuning: seconds, alternating, and peak memory
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import tiktoken
import torch
from torch.utils.data import DataLoader

from shared.assets import SMALL_MODEL, fetch, use_offline_vocabulary
from shared.carry import load_chapter
from shared.measure import peak_tensor_memory


def prepared(chapter, what, seed):
    """A fresh classifier on the small model of which ``what`` learns, and its optimizer."""
    torch.manual_seed(seed)
    model = chapter.pretrained_model(SMALL_MODEL)
    if what == "LoRA":
        chapter.prepare_lora(model, 16, 16)
    else:
        chapter.prepare_classifier(model)
    if what == "everything":
        model.requires_grad_(True)
    learning = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(learning, lr=3e-4, weight_decay=0.1, fused=True)


def data(chapter, folder):
    """(loader padded to the longest, loader of similar lengths, test loader, which test messages are copies)"""
    train, _, test = chapter.write_parts(chapter.read_messages(fetch("SMSSpamCollection").path), folder)
    tokenizer = tiktoken.get_encoding("gpt2")
    rows = chapter.SpamDataset(folder / "train.csv", tokenizer)
    padded = DataLoader(rows, batch_size=8, shuffle=True, drop_last=True)
    similar = DataLoader(rows, batch_sampler=chapter.SimilarLengthBatches(rows.lengths, 8),
                         collate_fn=chapter.cut_padding)  # fmt: skip
    test_loader = DataLoader(chapter.SpamDataset(folder / "test.csv", tokenizer, rows.max_length), batch_size=8)
    return padded, similar, test_loader, test["Text"].isin(set(train["Text"])).to_numpy()


def epoch(chapter, model, optimizer, loader):
    model.train()
    begin = time.perf_counter()
    for batch in loader:
        optimizer.zero_grad()
        chapter.calc_class_loss_batch(*batch, model, "cpu").backward()
        optimizer.step()
    return time.perf_counter() - begin


def lengths(epochs=5, seeds=(123, 1, 2)):
    chapter = load_chapter("ch06_classification")
    with tempfile.TemporaryDirectory() as folder:
        padded, similar, test_loader, is_copy = data(chapter, Path(folder))
        ratios = []
        for seed in seeds:
            models = [prepared(chapter, "last block", seed) for _ in range(2)]
            for _ in range(epochs):
                slow, fast = (epoch(chapter, *pair, loader) for pair, loader in zip(models, (padded, similar)))
                ratios.append(fast / slow)
                print(f"seed {seed}: padded {slow:.1f} s, similar lengths {fast:.1f} s, {ratios[-1]:.2f}", flush=True)
            for name, (model, _) in zip(("padded", "similar lengths"), models):
                logits, labels = chapter.predict_loader(test_loader, model, "cpu")
                right = (logits.argmax(dim=-1) == labels).numpy()
                print(f"   {name:15} {chapter.describe_accuracy(right, is_copy)}", flush=True)
        print(f"an epoch of similar lengths takes {statistics.median(ratios):.2f} of the padded one's time (median of "
              f"{len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def steps(rounds=40):
    chapter = load_chapter("appendix_e_lora")
    with tempfile.TemporaryDirectory() as folder:
        _, similar, *_ = data(chapter, Path(folder))
        torch.manual_seed(123)
        batches = list(similar)
        longest = max(batches, key=lambda batch: batch[0].numel())
        ways = {what: prepared(chapter, what, 123) for what in ("everything", "LoRA", "last block")}
        seconds = {what: [] for what in ways}

        def step(what, batch):
            model, optimizer = ways[what]
            optimizer.zero_grad()
            chapter.calc_class_loss_batch(*batch, model, "cpu").backward()
            optimizer.step()

        for what in ways:
            # Two steps: in the first, AdamW makes its averages only when the activations are gone.
            _, peak = peak_tensor_memory(lambda what=what: [step(what, longest) for _ in range(2)])
            print(f"{what:10} peak of two steps beside the weights {peak:.1f} MB, rows of {longest[0].shape[1]}")
        for batch in (batches * rounds)[:rounds]:
            for what in ways:
                begin = time.perf_counter()
                step(what, batch)
                seconds[what].append(time.perf_counter() - begin)
        for what, times in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(times, seconds["everything"]))
            milliseconds = 1e3 * statistics.median(times)
            print(f"{what:10} {milliseconds:6.1f} ms a step, {ratio:.2f} of full tuning (medians of {rounds})")


if __name__ == "__main__":
    commands = {"lengths": lengths, "steps": steps}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    use_offline_vocabulary()
    commands[sys.argv[1]]()
