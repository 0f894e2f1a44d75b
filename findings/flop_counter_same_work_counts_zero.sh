#!/usr/bin/env bash
# PyTorch's FlopCounterMode counts 0 operations for work that it counts in full when the same work is asked for in
# another way. Nothing says that a part is missing; the table just has no row for it.
#
# One would expect: the same product of the same numbers has one count, whether in training or in use, as W @ v or
# v @ W.T, on the CPU or on the device meta. Operations without a rule would be named.
#
# What happens with torch 2.13.0 (sizes in the script):
#   - nn.TransformerEncoderLayer: its matrices, 65,536, in training. In eval mode under no_grad 0: the layer's faster path
#     is one operation without a rule. Its outputs are those of the slower path, whose matrices are counted in full;
#   - a matrix times a vector, W @ v: 0. The same numbers as v @ W.T, or as F.linear(v, W): 4,096;
#   - nn.GRU counts its products; nn.LSTM of the same sizes on an x86-64 CPU 0 (oneDNN's layer is one operation);
#   - nn.Bilinear 0, and F.scaled_dot_product_attention on the CPU 0, forward and backward. On the device meta, or with
#     the plain form, it is counted. (Only the last is reported: issue 195460 of pytorch/pytorch, closed since.)
#
# Why it matters: shares of a processor's peak, prices of a training run and comparisons of models are made from such
# counts. A model in eval mode, a step of decoding, or an encoder beside an LSTM looks cheap or free. Count on the device
# meta in training mode, and compare with 2 x weights x tokens by hand.
#
# Source: run below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/try.py" <<'PYTHON'
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__)
torch.manual_seed(0)


def count(work, *inputs):
    """(operations as PyTorch counts them, result)."""
    with FlopCounterMode(display=False) as counted:
        result = work(*inputs)
    return counted.get_total_flops(), result


def row(name, found, wanted):
    print(f"{name:64} {found:7,}")
    assert found == wanted, (name, found, wanted)


B, T, D, HIDDEN = 2, 8, 16, 32
by_hand = 2 * B * T * (4 * D * D + 2 * D * HIDDEN)     # 4 matrices of attention, 2 of the feed forward network
layer = nn.TransformerEncoderLayer(D, 2, HIDDEN, dropout=0.0, batch_first=True)
x = torch.randn(B, T, D)
print(f"an encoder layer, its matrices by hand{'':27}{by_hand:7,}")
trained, in_training = count(layer.train(), x)
row("  train()", trained, by_hand)
with torch.no_grad():
    used, in_use = count(layer.eval(), x)
    row("  eval(), no_grad", used, 0)
    torch.backends.mha.set_fastpath_enabled(False)
    slower, _ = count(layer, x)
    row("  eval(), no_grad, without the faster path", slower, by_hand)
assert (in_training - in_use).abs().max() < 1e-5

W, v = torch.randn(64, 32), torch.randn(32)
forms = {"W @ v": (lambda: W @ v, 0), "v @ W.T": (lambda: v @ W.T, 2 * 64 * 32),
         "F.linear(v, W)": (lambda: F.linear(v, W), 2 * 64 * 32)}
print("a matrix (64, 32) times a vector")
for name, (form, wanted) in forms.items():
    found, result = count(form)
    row("  " + name, found, wanted)
    assert (result - W @ v).abs().max() < 1e-5

print("recurrent layers from 8 to 8, a text of 5")
with torch.no_grad():
    row("  nn.GRU", count(nn.GRU(8, 8), torch.randn(5, 1, 8))[0], 2 * 5 * 2 * 3 * 8 * 8)
    row("  nn.LSTM", count(nn.LSTM(8, 8), torch.randn(5, 1, 8))[0], 0)    # four gates would be 5,120
row("nn.Bilinear(4, 4, 4) of 2 rows", count(nn.Bilinear(4, 4, 4), torch.randn(2, 4), torch.randn(2, 4))[0], 0)

print("attention of 2 heads of 16 over 64 places, forward and backward")
heads = (1, 2, 64, 16)
forward = 2 * 2 * 2 * 64 * 64 * 16


def attention(device, *backend):
    q, k, v = (torch.randn(heads, device=device, requires_grad=True) for _ in range(3))

    def both():
        if not backend:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        with sdpa_kernel(*backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()

    return count(both)[0]


row("  CPU", attention("cpu"), 0)
row("  CPU, SDPBackend.MATH", attention("cpu", SDPBackend.MATH), 3 * forward)
on_meta = attention("meta")
print(f"  {'meta':62} {on_meta:7,}")
assert on_meta >= 3 * forward
print("as described above")
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
