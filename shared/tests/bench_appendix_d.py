"""Times appendix D's train.py, and measures its memory.

    python3 -m shared.tests.bench_appendix_d speed DATA [SIZE]    tokens a second of train.py and of a plain loop around
                                                                  transformers' GPT-2, at 10M and 124M parameters
    python3 -m shared.tests.bench_appendix_d memory               peak memory of runs over 60 MB and 600 MB of tokens
                                                                  (writes 660 MB to a temporary folder)

DATA is a folder made by `train.py prepare`.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from shared.course import ROOT

SCRIPT = ROOT / "appendix_d_training_loop" / "train.py"
CONFIGS = {
    "10M": {"emb_dim": 160, "n_layers": 6, "n_heads": 5, "global_batch": 8, "micro_batch": 8},
    "124M": {"emb_dim": 768, "n_layers": 12, "n_heads": 12, "global_batch": 4, "micro_batch": 4},
}


def course_loop(train, settings, data):
    """A function that does train.py's step of a given number, and returns its loss."""
    rows, crew = train.Rows(data, "train", settings.context_length), train.Team(0, 1, torch.device("cpu"))
    torch.manual_seed(settings.seed)
    model = train.GPTModel(train.config_of_run(settings))
    optimizer, loss = train.make_optimizer(model, settings), train.SummedLoss(model, settings.compile)

    def step(number):
        train.appendix.set_learning_rate(optimizer, settings.lr)
        optimizer.zero_grad()
        numbers = train.rows_of_step(number, len(rows), settings.global_batch, settings.seed)
        result = train.train_step(loss, rows, numbers, settings, crew)
        train.appendix.clip_gradients(model, settings.max_norm, number)
        optimizer.step()
        return result

    return step, sum(parameter.numel() for parameter in model.parameters())


def transformers_loop(train, settings, data):
    """The same with a GPT-2 of transformers in the loop that its users write, on the same rows."""
    from transformers import GPT2Config, GPT2LMHeadModel

    rows = train.Rows(data, "train", settings.context_length)
    config = GPT2Config(
        n_positions=settings.context_length, n_embd=settings.emb_dim, n_layer=settings.n_layers,
        n_head=settings.n_heads, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.95), fused=True)

    def step(number):
        optimizer.zero_grad()
        numbers = train.rows_of_step(number, len(rows), settings.global_batch, settings.seed)
        inputs, targets = rows.batch(numbers)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bf16):
            logits = model(inputs).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_norm)
        optimizer.step()
        return loss.item()

    return step


def speed(data, *names):
    """Tokens a second of both loops, step by step in turn, in 32 and 16 bits; medians."""
    sys.path.insert(0, str(ROOT))
    from appendix_d_training_loop import train

    for name, sizes in CONFIGS.items():
        if names and name not in names:
            continue
        for bf16 in (False, True):
            settings = train.Settings(**sizes, bf16=bf16)
            ours, n_parameters = course_loop(train, settings, Path(data))
            theirs = transformers_loop(train, settings, Path(data))
            seconds = {"train.py": [], "transformers": []}
            for number in range(14):
                for label, step in (("train.py", ours), ("transformers", theirs)):
                    start = time.perf_counter()
                    loss = step(number)
                    seconds[label].append(time.perf_counter() - start)
                    assert math.isfinite(loss)
            tokens = settings.global_batch * settings.context_length
            rates = {label: tokens / median(times[1:]) for label, times in seconds.items()}
            print(f"{name} ({n_parameters:,} parameters), {'bfloat16' if bf16 else '32 bits'}: "
                  + ", ".join(f"{label} {rate:.0f} tokens/s" for label, rate in rates.items())
                  + f", ratio {rates['train.py'] / rates['transformers']:.2f}", flush=True)  # fmt: skip


PEAK = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def memory():
    """Peak resident memory of 150 steps over files of two sizes, all mapped pages included (Linux only)."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for megabytes in (60, 600):
            data = Path(folder) / str(megabytes)
            data.mkdir()
            shards = {"train_000.bin": megabytes * 500_000, "held_out_000.bin": 100_000}
            for name, n_tokens in shards.items():
                np.random.default_rng(0).integers(0, 50_257, n_tokens, dtype=np.uint16).tofile(data / name)
            (data / "data.json").write_text(json.dumps({"vocab_size": 50_257, "shards": shards}), encoding="utf-8")
            words = ["--steps", "150", "--emb-dim", "32", "--n-layers", "2", "--eval-every", "0", "--prompt", ""]
            command = [sys.executable, "-c", PEAK, str(SCRIPT), "run", str(data), str(data / "out"), *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[megabytes] = int(done.stdout.split("VmHWM:")[1].split()[0]) / 1e3
            print(f"{megabytes} MB of tokens: peak {peaks[megabytes]:.0f} MB", flush=True)
        print(f"ratio {peaks[600] / peaks[60]:.3f}")


if __name__ == "__main__":
    {"speed": speed, "memory": memory}[sys.argv[1]](*sys.argv[2:])
