#!/usr/bin/env bash
# transformers 5: a tokenizer made from its own two files, with the arguments of transformers 4, knows no word.
#
# One would expect: GPT2Tokenizer(vocab_file="vocab.json", merges_file="merges.txt"), the way in which GPT-2's, RoBERTa's,
# CLIP's and BERT's tokenizers were made from files for years, either works or raises an error that names the arguments.
#
# What happens with transformers 5.23.0: the arguments are called vocab and merges now, and the old ones are taken without
# a word. The tokenizer then has no vocabulary but its special tokens:
#   - GPT-2's encodes every text to no ids at all;
#   - RoBERTa's encodes every text to the same two ids, start and end;
#   - CLIP's and BERT's encode every token as the unknown one.
# With transformers 4.57.1 the same calls give the ids.
#
# Why it matters: no exception and no warning. A data set made in this way holds empty rows, or rows that are all alike;
# a loss on them can even look good. Files by path are what offline installations use, where from_pretrained has no hub.
#
# Source: run below. The file names in a saved tokenizer's folder are unchanged, and from_pretrained(folder) is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'PYTHON'
import json
import sys
import warnings
from pathlib import Path

import transformers
from transformers import BertTokenizerFast, CLIPTokenizerFast, GPT2TokenizerFast, RobertaTokenizerFast

folder = Path(sys.argv[1])
plain = ["a", "b", "ab", "a</w>", "b</w>", "ab</w>"]
special = ["<|endoftext|>", "<|startoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>"]
(folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(plain + special)}))
(folder / "merges.txt").write_text("#version: 0.2\na b\na b</w>\n")
(folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "ab"]) + "\n")
files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
words = {"vocab": str(folder / "vocab.txt")}

print("transformers", transformers.__version__)
warnings.simplefilter("error")              # a warning would be an answer, too
seen = {}
for kind, given in ((GPT2TokenizerFast, files), (RobertaTokenizerFast, files), (CLIPTokenizerFast, files),
                    (BertTokenizerFast, words)):
    name = kind.__name__.removesuffix("Fast").removesuffix("Tokenizer")
    for spelling, suffix in (("old", "_file"), ("new", "")):
        try:
            tokenizer = kind(**{key + suffix: value for key, value in given.items()})
        except TypeError as error:          # transformers 4 with the new arguments
            print(f"{name:8} {spelling} arguments: {type(error).__name__}")
            continue
        ids = [tokenizer(text)["input_ids"] for text in ("ab", "ba")]
        seen[name, spelling] = ids
        print(f"{name:8} {spelling} arguments: {len(tokenizer)} entries; 'ab' and 'ba' are {ids[0]} and {ids[1]}")

if transformers.__version__.startswith("5"):
    assert seen["GPT2", "old"] == [[], []] and seen["GPT2", "new"] == [[2], [1, 0]]
    assert seen["Roberta", "old"][0] == seen["Roberta", "old"][1] and len(seen["Roberta", "old"][0]) == 2
    assert all(seen[name, "new"][0] != seen[name, "new"][1] for name in ("GPT2", "Roberta", "CLIP", "Bert"))
    assert seen["Bert", "old"][0] == seen["Bert", "old"][1] and set(seen["CLIP", "old"][0][1:]) == {2}
else:
    assert seen["GPT2", "old"] == [[2], [1, 0]]
    assert all(seen[name, "old"][0] != seen[name, "old"][1] for name in ("GPT2", "Roberta", "CLIP", "Bert"))
PYTHON
for version in 5.23.0 4.57.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "transformers==$version"
    "$folder/$version/bin/python" "$folder/try.py" "$folder"
done
