"""llama.cpp as a second opinion on GGUF files, through the package node-llama-cpp for Node, where that is installed.

    npm install --prefix FOLDER node-llama-cpp@3.21.1

FOLDER is ``llama-cpp`` in the course's cache, or what the environment variable COURSE_LLAMA_CPP names.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from shared.assets import cache_folder

PACKAGE = "node-llama-cpp@3.21.1"
SECONDS = 300


def folder():
    """The folder in which npm has put the package, or None if it or Node is not there."""
    chosen = Path(os.environ.get("COURSE_LLAMA_CPP") or cache_folder() / "llama-cpp").expanduser().resolve()
    there = (chosen / "node_modules" / "node-llama-cpp" / "package.json").is_file()
    return chosen if there and shutil.which("node") else None


def ask(path, texts=(), greedy=(), context=512, special=False):
    """What llama.cpp makes of texts and beginnings.

    Args:
        path: of a GGUF file.
        texts: to be tokenized; with ``special``, special tokens in them are read as such.
        greedy: [(ids, n), ...]: beginnings and how many of the likeliest tokens to add, one after another.
        context: how many tokens it reads at most.

    Returns:
        (lists of ids of the texts, lists of the added ids).

    Raises:
        RuntimeError: if it could not read the file; with its words.
        subprocess.TimeoutExpired: if it took longer than SECONDS.
    """
    job = {"texts": list(texts), "special": special, "context": context,
           "greedy": [{"ids": [int(i) for i in ids], "n": n} for ids, n in greedy]}  # fmt: skip
    command = ["node", str(Path(__file__).with_suffix(".mjs")), str(path)]
    env = {**os.environ, "COURSE_LLAMA_CPP": str(folder())}
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, encoding="utf-8", env=env,
                          timeout=SECONDS)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"llama.cpp could not do it: {done.stderr.strip()[-2_000:]}")
    answer = json.loads(done.stdout)
    return answer["tokens"], answer["greedy"]
