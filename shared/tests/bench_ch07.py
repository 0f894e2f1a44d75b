"""Measures what chapter 7 says about speed: commands, because it depends on the machine.

    python3 -m shared.tests.bench_ch07 answers    the answers to all test entries by a tuned model: one by one without a
                                                  cache, one by one with it, and together
    python3 -m shared.tests.bench_ch07 lengths    an epoch in random order and one of batches of similar length,
                                                  alternating, and the padding of both
    python3 -m shared.tests.bench_ch07 counted    steps on stories with logits everywhere, and with logits only where a
                                                  target counts

``answers`` uses the weights that chapter 7 saved (checkpoints/instructions.pth in its folder). The real
data is found through COURSE_DATA.
"""

import statistics
import sys
import time

import tiktoken
import torch
from torch.utils.data import DataLoader

from shared import stories
from shared.assets import SMALL_MODEL, fetch, use_offline_vocabulary
from shared.carry import load_chapter
from shared.course import ROOT

EOS, NEW = 50256, 60


def timed(function):
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def ratio(slow, fast):
    each = [a / b for a, b in zip(slow, fast)]
    return f"{statistics.median(each):.2f} (median of {len(each)}, {min(each):.2f} to {max(each):.2f})"


def answers(rounds=3):
    chapter, tokenizer = load_chapter("ch07_instruction"), tiktoken.get_encoding("gpt2")
    entries = chapter.split_entries(chapter.read_instructions(fetch("instruction-data.json").path))[1]
    model = chapter.pretrained_model(SMALL_MODEL)
    weights = ROOT / "ch07_instruction" / "checkpoints" / "instructions.pth"
    model.load_state_dict(torch.load(weights, weights_only=True))
    prompts = [chapter.prompt_ids(entry, tokenizer) for entry in entries]

    def alone(use_cache):
        context = model.pos_emb.num_embeddings
        found = []
        for prompt in prompts:
            ids = chapter.generate(model, torch.tensor([prompt]), NEW, context, eos_id=EOS, use_cache=use_cache)
            found.append(ids[0, len(prompt) :].tolist())
        return found

    seconds = {"no cache": [], "cache": [], "together": []}
    for _ in range(rounds):
        found = {}
        for name, work in (("no cache", lambda: alone(False)), ("cache", lambda: alone(True)),
                           ("together", lambda: chapter.answer_ids(entries, model, tokenizer, NEW))):  # fmt: skip
            took, found[name] = timed(work)
            seconds[name].append(took)
        same = sum(found["together"][i] == found["cache"][i] == found["no cache"][i] for i in range(len(entries)))
        print({name: round(times[-1], 2) for name, times in seconds.items()}, f"same answers: {same} of {len(entries)}")
    for name in ("no cache", "cache"):
        print(f"one by one, {name}, takes {ratio(seconds[name], seconds['together'])} times as long as together")


def epoch(chapter, model, optimizer, loader):
    for batch in loader:
        optimizer.zero_grad()
        chapter.calc_loss_batch(*batch, model, "cpu").backward()
        optimizer.step()


def lengths(rounds=5):
    chapter, tokenizer = load_chapter("ch07_instruction"), tiktoken.get_encoding("gpt2")
    entries = chapter.split_entries(chapter.read_instructions(fetch("instruction-data.json").path))[0]
    rows = chapter.InstructionDataset(entries, tokenizer)
    torch.manual_seed(123)
    shuffled = DataLoader(rows, batch_size=8, shuffle=True, drop_last=True, collate_fn=chapter.custom_collate_fn)
    similar = DataLoader(rows, batch_sampler=chapter.SimilarLengthBatches([len(row) for row in rows], 8),
                         collate_fn=chapter.custom_collate_fn)  # fmt: skip
    loaders, seconds = {"shuffled": shuffled, "similar": similar}, {"shuffled": [], "similar": []}
    for name, loader in loaders.items():
        all_targets = [targets for _, targets in loader]
        share = sum((t == -100).sum().item() for t in all_targets) / sum(t.numel() for t in all_targets)
        print(f"{name}: padding {share:.1%} of the tokens")
    pairs = {}
    for name in loaders:
        model = chapter.pretrained_model(SMALL_MODEL).train()
        pairs[name] = model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for _ in range(rounds):
        for name, loader in loaders.items():
            seconds[name].append(timed(lambda name=name, loader=loader: epoch(chapter, *pairs[name], loader))[0])
        print({name: round(times[-1], 1) for name, times in seconds.items()}, flush=True)
    print(f"an epoch of similar lengths takes {ratio(seconds['similar'], seconds['shuffled'])} of one in random order")


def counted(rounds=15):
    chapter, tokenizer = load_chapter("ch07_instruction"), tiktoken.get_encoding("gpt2")
    entries = stories.make_stories(16 * rounds)
    rows = [(chapter.prompt_ids(entry, tokenizer), tokenizer.encode(entry["output"])) for entry in entries]
    ways = {"everywhere": lambda model, x, y: chapter.calc_loss_batch(x, y, model, "cpu"),
            "where it counts": lambda model, x, y: chapter.answer_losses(model, x, y).mean()}  # fmt: skip
    seconds, trained = {name: [] for name in ways}, {}
    for name in ways:
        model = chapter.pretrained_model(SMALL_MODEL).train()
        trained[name] = model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for start in range(0, len(rows), 16):
        batch = chapter.answer_batch(*zip(*rows[start : start + 16]))
        for name, loss in ways.items():
            model, optimizer = trained[name]

            def step(loss=loss, model=model, optimizer=optimizer, batch=batch):
                optimizer.zero_grad()
                loss(model, *batch).backward()
                optimizer.step()

            seconds[name].append(timed(step)[0])
    where, everywhere = seconds["where it counts"], seconds["everywhere"]
    print(f"a step with logits where a target counts takes {ratio(where, everywhere)} of one with logits everywhere")


if __name__ == "__main__":
    commands = {"answers": answers, "lengths": lengths, "counted": counted}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    use_offline_vocabulary()
    commands[sys.argv[1]]()
