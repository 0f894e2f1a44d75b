#!/usr/bin/env bash
# A row that is all padding: the answer of nn.MultiheadAttention depends on who asks.
#
# One would expect: the same module, weights and input give the same output, whether or not the attention weights are
# asked for too (need_weights), and whether or not gradients are recorded.
#
# What happens with torch 2.13.0 on the CPU, for a batch in which key_padding_mask hides every key of one row:
#   - need_weights=False (the fused kernel): the row's attention is 0, the output is finite;
#   - need_weights=True (written out): the row is NaN;
#   - in eval mode without gradients (the fast path): NaN as well, whatever need_weights is;
#   - nn.TransformerEncoderLayer is therefore finite in training and in eval mode with gradients, and NaN in eval mode
#     under torch.no_grad(): a model that trained without a warning answers NaN when it is used;
#   - with need_weights=True the gradients of all weights are NaN even if only the other row is in the loss.
#
# Why it matters: such rows come from empty texts and from batches filled up to a fixed number of rows. Code that was
# tested in training mode, or without the weights, changes its answer when the mode or that argument changes.
#
# Source: run below. The documentation of nn.MultiheadAttention (need_weights, fast path) and of
# nn.functional.scaled_dot_product_attention does not mention rows without a visible key.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

print("torch", torch.__version__)
torch.manual_seed(0)
attention = nn.MultiheadAttention(8, 2, batch_first=True)
x = torch.randn(2, 3, 8)
hidden = torch.tensor([[True] * 3, [False] * 3])        # every key of the first row, none of the second


def first_row_is_nan(training, need_weights, gradients):
    attention.train(training)
    with torch.set_grad_enabled(gradients):
        output, _ = attention(x, x, x, key_padding_mask=hidden, need_weights=need_weights)
    assert torch.isfinite(output[1]).all()              # the other row is always right
    return output[0].isnan().all().item()


seen = {}
for training in (True, False):
    for gradients in (True, False):
        for need_weights in (False, True):
            key = ("train" if training else "eval", "gradients" if gradients else "no_grad", f"need_weights={need_weights}")
            seen[key] = first_row_is_nan(training, need_weights, gradients)
            print(*key, "-> NaN" if seen[key] else "-> finite")
assert not seen["train", "gradients", "need_weights=False"] and seen["train", "gradients", "need_weights=True"]
assert not seen["eval", "gradients", "need_weights=False"] and seen["eval", "no_grad", "need_weights=False"]

layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
outcomes = []
for training, gradients in ((True, True), (False, True), (False, False)):
    layer.train(training)
    with torch.set_grad_enabled(gradients):
        outcomes.append(layer(x, src_key_padding_mask=hidden)[0].isnan().any().item())
print("TransformerEncoderLayer, NaN in train / eval with gradients / eval under no_grad:", outcomes)
assert outcomes == [False, False, True]

attention.train()
for need_weights in (False, True):
    attention.zero_grad()
    output, _ = attention(x, x, x, key_padding_mask=hidden, need_weights=need_weights)
    output[1].sum().backward()                          # only the row that is right
    nan = attention.in_proj_weight.grad.isnan().any().item()
    print(f"need_weights={need_weights}: gradients of the weights NaN although only the right row is in the loss: {nan}")
    assert nan == need_weights
print("as described")
PYTHON
