"""Times chapter 5's whole training run; `python3 -m shared bench` times its parts.

    COURSE_DATA=folder python3 -m shared.tests.bench_ch05

The ten epochs on The Verdict, three times: as the chapter does it, without oneDNN, and step by step with unfused AdamW.
"""

import contextlib
import io
import tempfile
import time
from unittest import mock

import torch

from shared import fast_linear
from shared.assets import fetch, use_offline_vocabulary
from shared.carry import load_chapter
from shared.tests.bench_ch04 import step_by_step


def train():
    """Minutes of the chapter's training run, without oneDNN, and step by step; and whether their logs agree."""
    use_offline_vocabulary()
    import tiktoken

    ch05 = load_chapter("ch05_pretraining")
    tokenizer = tiktoken.get_encoding("gpt2")
    story = fetch("the-verdict.txt").read_text()
    split = int(0.9 * len(story))
    logs, available_here = [], fast_linear.available()
    for name in ("as in the chapter", "without oneDNN", "step by step"):
        onednn = name == "as in the chapter"
        torch.manual_seed(123)
        train_loader = ch05.create_dataloader_v1(story[:split], 2, 256, 256, shuffle=True, drop_last=True)
        val_loader = ch05.create_dataloader_v1(story[split:], 2, 256, 256, shuffle=False, drop_last=False)
        torch.manual_seed(123)
        model = ch05.GPTModel({**ch05.GPT_CONFIG_124M, "context_length": 256})
        if onednn:
            fast_linear.with_fast_linears(model)
        state = torch.get_rng_state()
        if name == "step by step":
            model = step_by_step(ch05, model, drop_rate=0.1)
            torch.set_rng_state(state)
        optimizer = torch.optim.AdamW(model.parameters(), 0.0004, weight_decay=0.1, fused=name != "step by step")
        start = time.perf_counter()
        available = mock.patch.object(fast_linear, "available", return_value=onednn and available_here)
        with contextlib.redirect_stdout(io.StringIO()) as printed, available:
            losses = ch05.train_model_simple(
                model, train_loader, val_loader, optimizer, "cpu", 10, 5, 5, "Every effort moves you", tokenizer
            )
        print(f"{name}: {(time.perf_counter() - start) / 60:.1f} minutes", flush=True)
        logs.append((torch.tensor(losses[:2]), printed.getvalue()))
        if len(logs) > 1:
            difference, same = (logs[-1][0] - logs[0][0]).abs().max().item(), logs[-1][1] == logs[0][1]
            print(f"    the 36 losses differ by at most {difference:.1e} from the first; the log with its samples is "
                  f"{'the same' if same else 'another'}", flush=True)  # fmt: skip
        del model, optimizer


def gpt2_pair(config):
    """The same random weights in a GPT-2 of transformers and in the course's model, both in eval mode."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ch05 = load_chapter("ch05_pretraining")
    torch.manual_seed(123)
    theirs = GPT2LMHeadModel(GPT2Config(**config)).eval()
    params = {}
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        settings, params = ch05.read_gpt2(folder)
        ours = ch05.GPTModel(ch05.config_of(settings)).eval()
        ch05.load_weights_into_gpt(ours, params)
    return ch05, ours, theirs


if __name__ == "__main__":
    train()
