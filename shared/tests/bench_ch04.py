"""Times one training step of the 124M model against the same model written step by step; and GPT-2 XL on meta.

    python3 -m shared.tests.bench_ch04 [--runs 5] [--batch 2] [--length 256]

"Step by step" means: attention, layer normalisation and GELU as the formulas say, and AdamW without fusing. Both
models start from the same weights and see the same batches, alternating in one process; medians are compared.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from shared.carry import load_chapter


def step_by_step(ch04, model, drop_rate=0.0):
    """A copy of the 124M model whose parts compute as the formulas say."""

    class PlainLayerNorm(ch04.LayerNorm):
        def forward(self, x):
            mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, unbiased=False)
            return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift

    class PlainGELU(nn.Module):
        def forward(self, x):
            return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))

    cfg = {"drop_rate": drop_rate, "context_length": model.pos_emb.num_embeddings,
           "qkv_bias": model.trf_blocks[0].att.W_query.bias is not None,
           "emb_dim": model.tok_emb.embedding_dim, "n_layers": len(model.trf_blocks),
           "n_heads": model.trf_blocks[0].att.num_heads,
           "tie_weights": model.out_head.weight is model.tok_emb.weight}  # fmt: skip
    copy = ch04.GPTModel(ch04.GPT_CONFIG_124M | cfg)
    copy.load_state_dict(model.state_dict())
    for part in copy.modules():
        if isinstance(part, ch04.LayerNorm):
            part.__class__ = PlainLayerNorm
        elif isinstance(part, ch04.FusedMultiHeadAttention):
            part.__class__ = ch04.MultiHeadAttention
    for block in copy.trf_blocks:
        block.ff.layers[1] = PlainGELU()
    return copy


def train_step(model, optimizer, ids):
    """One forward and backward pass and one step; returns seconds and loss."""
    start = time.perf_counter()
    loss = nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - start, loss.item()


def compare(runs, batch, length):
    ch04 = load_chapter("ch04_gpt_model")
    torch.manual_seed(123)
    ours = ch04.GPTModel(ch04.GPT_CONFIG_124M | {"drop_rate": 0.0, "context_length": length})
    models = {"course": ours, "step by step": step_by_step(ch04, ours)}
    optimizers = {
        "course": torch.optim.AdamW(ours.parameters(), lr=4e-4, weight_decay=0.1, fused=True),
        "step by step": torch.optim.AdamW(models["step by step"].parameters(), lr=4e-4, weight_decay=0.1, fused=False),
    }
    times, gaps = {name: [] for name in models}, []
    for _ in range(runs):
        ids, losses = torch.randint(0, 50_257, (batch, length + 1)), []
        for name, model in models.items():
            seconds, loss = train_step(model, optimizers[name], ids)
            times[name].append(seconds)
            losses.append(loss)
        gaps.append(abs(losses[0] - losses[1]))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:13} median {medians[name]:.2f} s of {', '.join(f'{value:.2f}' for value in values)}")
    print(f"ratio {medians['course'] / medians['step by step']:.3f}; losses differ by at most {max(gaps):.1e}")


COUNT_XL = """
import time, torch, psutil
from shared.carry import load_chapter
ch04 = load_chapter("ch04_gpt_model")
with torch.device("meta"):
    ch04.GPTModel(ch04.GPT_CONFIG_124M)
before, start = psutil.Process().memory_info().rss, time.perf_counter()
with torch.device("meta"):
    model = ch04.GPTModel(ch04.GPT_CONFIG_124M | {"emb_dim": 1600, "n_layers": 48, "n_heads": 25})
n = sum(p.numel() for p in model.parameters())
seconds, used = time.perf_counter() - start, psutil.Process().memory_info().rss - before
print(f"GPT-2 XL on meta: {n:,} parameters in {seconds:.2f} s, {used / 1e6:.1f} MB more than before")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("runs", 5), ("batch", 2), ("length", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, batch {options.batch} x {options.length}")
    compare(options.runs, options.batch, options.length)
    subprocess.run([sys.executable, "-c", COUNT_XL], check=True)


if __name__ == "__main__":
    main()
