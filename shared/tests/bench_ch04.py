"""The chapter's model written step by step, for other benchmarks; and the time and memory of GPT-2 XL on meta.

    python3 -m shared.tests.bench_ch04

"Step by step" means: attention, layer normalisation and GELU as the formulas say. `python3 -m shared bench train`
compares a training step of it with the course's.
"""

import math
import subprocess
import sys

import torch
from torch import nn


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


if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", COUNT_XL], check=True)
