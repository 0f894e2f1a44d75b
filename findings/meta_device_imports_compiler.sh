#!/usr/bin/env bash
# Planning a model on PyTorch's device `meta` loads the compiler, as soon as the model has an embedding.
#
# One would expect: tensors on `meta` have a shape and no memory, so making a layer there costs next to nothing. It is
# the usual way to count the parameters of a model that would not fit, or to load one without a second copy of it.
#
# What happens with torch 2.13.0 on the CPU, each in a process of its own, after `import torch`:
#   - nn.Linear and nn.LayerNorm on meta: no new module, no memory;
#   - nn.Embedding on meta: 823 new Python modules, torch._dynamo and sympy among them, 68 MB, and most of a second.
#     So too for normal_(), for `a + b`, triu() and masked_fill(); matmul and arange load 487 modules and 33 MB.
#   It depends on the operation: what has a kernel of its own for meta (uniform_, mul_, copy_) loads nothing, the others
#   are computed by Python functions that come with the compiler's packages.
#
# Why it matters: whoever compares ways of loading by their peak memory blames those 68 MB on the weights (for a model
# of 135 million parameters they are an eighth of them), and a command that only counts parameters starts later. Skipping
# the random initial values on the CPU (unwritten memory is not taken) avoids it.
#
# Source: run below. PyTorch's page on the meta device says that tensors there have no data, and nothing of this.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/try.py" <<'PYTHON'
import sys
import time

import torch
from torch import nn


def megabytes():
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon"))


def empty(**options):
    return torch.empty(4, 4, device="meta", **options)


ways = {
    "nn.Linear": lambda: nn.Linear(4, 4, device="meta"),
    "nn.LayerNorm": lambda: nn.LayerNorm(4, device="meta"),
    "uniform_": lambda: empty().uniform_(),
    "mul_": lambda: empty().mul_(2.0),
    "nn.Embedding": lambda: nn.Embedding(4, 4, device="meta"),
    "normal_": lambda: empty().normal_(),
    "add": lambda: empty() + empty(),
    "triu": lambda: empty().triu(1),
    "masked_fill": lambda: empty().masked_fill(empty(dtype=torch.bool), 0.0),
    "matmul": lambda: empty() @ empty(),
    "arange": lambda: torch.arange(4, device="meta"),
}
if len(sys.argv) == 1:
    print(torch.__version__, *ways)
else:
    memory, modules, begin = megabytes(), len(sys.modules), time.perf_counter()
    ways[sys.argv[1]]()
    took, compiler = time.perf_counter() - begin, "torch._dynamo" in sys.modules
    print(sys.argv[1], len(sys.modules) - modules, round(megabytes() - memory, 1), round(took, 2), compiler)
PYTHON
read -r version names < <("$folder/venv/bin/python" "$folder/try.py")
echo "torch $version"
echo "operation, new modules, MB, seconds, the compiler is loaded"
for name in $names; do
  "$folder/venv/bin/python" "$folder/try.py" "$name" | tee -a "$folder/seen"
done
"$folder/venv/bin/python" - "$folder/seen" <<'PYTHON'
import sys

seen = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        name, modules, megabytes, _, compiler = line.split()
        seen[name] = int(modules), float(megabytes), compiler == "True"
for name in ("nn.Linear", "nn.LayerNorm", "uniform_", "mul_"):
    assert seen[name][0] == 0 and seen[name][1] < 5 and not seen[name][2], (name, seen[name])
for name in ("nn.Embedding", "normal_", "add", "triu", "masked_fill"):
    assert seen[name][0] > 500 and seen[name][1] > 30 and seen[name][2], (name, seen[name])
for name in ("matmul", "arange"):
    assert seen[name][0] > 300 and seen[name][1] > 15 and not seen[name][2], (name, seen[name])
print("as described above")
PYTHON
