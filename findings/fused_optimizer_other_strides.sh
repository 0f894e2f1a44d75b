#!/usr/bin/env bash
# PyTorch's fused optimizers on the CPU pair numbers by their place in memory: where a gradient, or a moment that was
# loaded, lies in another order than its weight, each weight gets the step of another one, without a word.
#
# One would expect: torch.optim with fused=True computes what it computes without, up to rounding, or refuses. On CUDA it
# refuses ("params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, and layout").
#
# What happens with torch 2.13.0 on the CPU, for a weight whose memory order is not the usual one, such as the transpose
# of a matrix that a file holds as (in, out), or a convolution in channels_last:
#   - a gradient that is assigned, as torch.autograd.grad returns it, lies in the usual order. SGD, Adam, AdamW and Adagrad
#     with fused=True then take for the n-th number of the weight's memory the n-th of the gradient's: element (i, j) is
#     changed by the gradient of another. foreach=True and the plain loop are right;
#   - after backward() the gradient has the weight's order, and all is well;
#   - load_state_dict keeps the order in which moments were saved. A run that is saved as usual and resumed in
#     channels_last goes on with moments that belong to other weights. The plain loop resumes to the same numbers.
# Shapes fit, and nothing is raised.
#
# Why it matters: GPT-2's files hold their matrices transposed, and keeping the transposed view is the cheapest way to load
# them; fused=True is the faster choice on the CPU, too. contiguous() on the weights, or on what is assigned, mends it.
#
# Source: run below; the refusal on CUDA as users report it in issues 106951 and 110758 of pytorch/pytorch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/try.py" <<'PYTHON'
import copy

import torch
from torch import nn

print("torch", torch.__version__)
RULES = {"SGD": (torch.optim.SGD, {"momentum": 0.9}), "Adam": (torch.optim.Adam, {}),
         "AdamW": (torch.optim.AdamW, {}), "Adagrad": (torch.optim.Adagrad, {})}


def after_three_steps(rule, how, **kind):
    """A weight (3, 5) that is the transpose of a stored matrix, after three steps."""
    numbers = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3, generator=numbers).T)
    make, options = RULES[rule]
    optimizer = make([weight], lr=0.1, **options, **kind)
    for _ in range(3):
        loss = (weight * torch.randn(3, 5, generator=numbers)).sum()
        if how == "backward()":
            optimizer.zero_grad()
            loss.backward()
            assert weight.grad.stride() == weight.stride() == (1, 3)
        else:
            weight.grad, = torch.autograd.grad(loss, [weight])
            assert weight.grad.stride() == (5, 1)
        optimizer.step()
    return weight.detach()


for rule in RULES:
    for how in ("backward()", "autograd.grad"):
        plain = after_three_steps(rule, how, foreach=False)
        off = {kind: (after_three_steps(rule, how, **{kind: True}) - plain).abs().max().item()
               for kind in ("foreach", "fused")}
        print(f"{rule:8}{how:14} largest difference from the plain loop: "
              + ", ".join(f"{kind} {value:.6f}" for kind, value in off.items()))
        assert off["foreach"] < 1e-5 and (off["fused"] > 0.01) == (how == "autograd.grad"), (rule, how, off)

# One step of plain gradient descent says which number went where.
weight = nn.Parameter(torch.zeros(2, 3).T)
weight.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
torch.optim.SGD([weight], lr=1.0, fused=True).step()
print("gradient ", weight.grad.tolist(), "\nsubtracted", (-weight).tolist())
assert (-weight).tolist() == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]

images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def trained(layer, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        layer(images).square().mean().backward()
        optimizer.step()
    return layer.weight.detach()


for fused in (False, True):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05, foreach=False, fused=fused)
    trained(layer, optimizer)
    weights, moments = copy.deepcopy((layer.state_dict(), optimizer.state_dict()))
    uncut = trained(layer, optimizer)
    resumed = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    resumed.load_state_dict(weights)
    optimizer = torch.optim.AdamW(resumed.parameters(), lr=0.05, foreach=False, fused=fused)
    optimizer.load_state_dict(moments)
    off = (trained(resumed, optimizer) - uncut).abs().max().item()
    print(f"resumed in channels_last, fused={fused}: largest difference from the uncut run {off:.6f}")
    assert (off > 0.01) == fused and (fused or off < 1e-5), off
print("as described above")
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
