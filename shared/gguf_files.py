"""GGUF files, which llama.cpp, Ollama and LM Studio read: settings, vocabulary and weights of a model in one file.

Section 5.7 of chapter 5 reads the beginning of such a file in a few lines. This is the form for files of strangers:
every length is compared with what the file still has, and what the course's models do not compute is refused by name.

Source: the GGUF specification of the ggml project, version 3.
"""

import contextlib
import functools
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shared.course import count_of, part_of

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Numbers that are turned into float32 in one go. More is no faster, and leaves holes in the process's memory.
ROWS_AT_ONCE = 250_000

# What a llama may say about its computation, and what ModernGPT does. Names and sizes do not matter here.
LLAMA_SIZES = {
    "vocab_size": "vocab_size", "context_length": "context_length", "emb_dim": "embedding_length",
    "hidden_dim": "feed_forward_length", "n_heads": "attention.head_count", "n_kv_heads": "attention.head_count_kv",
    "n_layers": "block_count", "rope_base": "rope.freq_base", "norm_eps": "attention.layer_norm_rms_epsilon",
}  # fmt: skip
GPT2_SIZES = {
    "context_length": "context_length", "emb_dim": "embedding_length", "n_heads": "attention.head_count",
    "n_layers": "block_count",
}  # fmt: skip
LLAMA_SAME_AS_HEAD = ("rope.dimension_count", "attention.key_length", "attention.value_length")


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies in the file, and in which form: ``kind`` is a name such as Q4_1; shape (rows, columns)."""

    shape: tuple
    kind: str
    offset: int
    n_bytes: int


class GgufFile:
    """A GGUF file whose settings and table of tensors have been read and fit the file's size.

    Attributes:
        settings: {"general.architecture": "llama", ...}; arrays as lists.
        tensors: {name: Stored}, in the file's order.

    Raises:
        ValueError: if the file is of another format or version, cut short or damaged.
        OSError: if it cannot be read.
    """

    def __init__(self, path):
        self.path, self.settings, self.tensors = Path(path), {}, {}
        self.n_bytes = os.path.getsize(path)
        with open(path, "rb") as self._file:
            magic = self._file.read(4)
            if magic != MAGIC:
                raise ValueError(f"{path} is no GGUF file: it begins with {magic!r}, and not with {MAGIC!r}")
            version = self._number("I")
            if version not in VERSIONS:
                order = "; it was written for a machine with the other byte order" if version >> 24 else ""
                raise ValueError(f"{path} is GGUF of version {version}{order}; known are versions 2 and 3")
            n_tensors, n_settings = self._number("Q"), self._number("Q")
            for _ in range(n_settings):
                key, kind = self._string(), self._number("I")
                self.settings[key] = self._value(kind)
            table = [self._entry() for _ in range(n_tensors)]
            self._place(table, self._file.tell())
        del self._file

    def _read(self, n):
        """The next n bytes; ValueError if there are fewer."""
        left = self.n_bytes - self._file.tell()
        if n > left:
            raise ValueError(f"{self.path} is cut short or damaged: {n:,} bytes are to come, and {left:,} are left; "
                             "get it again")  # fmt: skip
        return self._file.read(n)

    def _number(self, kind):
        return struct.unpack("<" + kind, self._read(struct.calcsize("<" + kind)))[0]

    def _string(self):
        data = self._read(self._number("Q"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is damaged: a text in it is no UTF-8 ({error}); get it again") from error

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._number(self._scalar(kind))
        kind, n = self._number("I"), self._number("Q")
        if kind == STRING:
            return [self._string() for _ in range(n)]
        scalar = self._scalar(kind)
        return list(struct.unpack(f"<{n}{scalar}", self._read(n * struct.calcsize("<" + scalar))))

    def _scalar(self, kind):
        if kind not in SCALARS:
            raise ValueError(f"{self.path} has a setting of the unknown kind {kind}: it is damaged, or too new")
        return SCALARS[kind]

    def _entry(self):
        """Name, shape (rows, columns), kind and place of a tensor, as the table has them."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name, n_dims = self._string(), self._number("I")
        shape = tuple(self._number("Q") for _ in range(n_dims)) if 1 <= n_dims <= 4 else ()
        kind, offset = self._number("I"), self._number("Q")
        if kind not in list(GGMLQuantizationType):
            raise ValueError(f"{self.path} has {name} in the unknown form {kind}: it is damaged, or too new")
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if not shape or 0 in shape or shape[0] % block:
            raise ValueError(f"{self.path} is damaged: {name} has the sizes {shape}, in blocks of {block}")
        rows = int(np.prod([int(n) for n in shape[1:]], dtype=object)) if len(shape) > 1 else 1
        return name, shape[::-1], GGMLQuantizationType(kind).name, offset, rows * (shape[0] // block) * n_bytes

    def _place(self, table, end):
        """Fill ``tensors``; the numbers begin after ``end`` at the next multiple of the alignment."""
        step = self.settings.get("general.alignment", 32)
        if not isinstance(step, int) or step < 1:
            raise ValueError(f"{self.path} is damaged: general.alignment is {step!r}; get it again")
        begin = -(-end // step) * step
        for name, shape, kind, offset, n_bytes in table:
            if name in self.tensors:
                raise ValueError(f"{self.path} is damaged: it has {name} twice; get it again")
            if begin + offset + n_bytes > self.n_bytes:
                raise ValueError(f"{self.path} is cut short: {name} ends at byte {begin + offset + n_bytes:,}, and the "
                                 f"file at {self.n_bytes:,}; get it again")  # fmt: skip
            self.tensors[name] = Stored(shape, kind, begin + offset, n_bytes)

    def holds_only(self, wanted):
        """Refuse tensors that are missing, left over or of another shape; ``wanted`` is {name: shape}."""
        for name, shape in wanted.items():
            if name not in self.tensors:
                raise ValueError(f"{self.path} has no tensor {name}; it belongs to another kind of model")
            if self.tensors[name].shape != tuple(shape):
                raise ValueError(f"{self.path} has {name} with the shape {self.tensors[name].shape}; it should be "
                                 f"{tuple(shape)} by its settings")  # fmt: skip
        for name in self.tensors:
            if name not in wanted:
                raise ValueError(f"{self.path} has the tensor {name}, for which the model has no place")

    def tensor(self, name):
        """A tensor as float32, computed part by part from its stored form; ValueError if that is not known."""
        from gguf import GGMLQuantizationType, dequantize

        stored = self.tensors[name]
        whole = np.empty(stored.shape, dtype=np.float32).reshape(-1, stored.shape[-1])
        row_bytes = stored.n_bytes // len(whole)
        step = max(1, ROWS_AT_ONCE // stored.shape[-1])
        with open(self.path, "rb") as file:
            file.seek(stored.offset)
            for start in range(0, len(whole), step):
                part = whole[start : start + step]
                data = np.fromfile(file, dtype=np.uint8, count=len(part) * row_bytes).reshape(len(part), row_bytes)
                try:
                    part[:] = dequantize(data.view(np.float32) if stored.kind == "F32" else data,
                                         GGMLQuantizationType[stored.kind])  # fmt: skip
                except NotImplementedError as error:
                    raise ValueError(f"{self.path} has {name} in the form {stored.kind}, which cannot be read; take a "
                                     "file in another form, such as Q8_0") from error  # fmt: skip
        return torch.from_numpy(whole.reshape(stored.shape))


def _list(file, name):
    """A setting that is a list, empty if there is none; ValueError if it is something else."""
    value = file.settings.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{file.path} has no list as {name}; it is {value!r}")
    wanted = int if name.endswith("token_type") else str
    for entry in value:
        if not isinstance(entry, wanted):
            raise ValueError(f"{file.path} has {entry!r} in {name}; it should be of the kind {wanted.__name__}")
    return value


def _fits(file, n_tokens, n_blocks, shapes):
    """Compare the settings with what the file holds, before a model of that size takes memory."""
    tokens = _list(file, "tokenizer.ggml.tokens")
    if len(tokens) != n_tokens:
        raise ValueError(f"{file.path} has {count_of(len(tokens), 'token')} for a model of {n_tokens}; they do not fit")
    for name, shape in shapes.items():
        stored = file.tensors.get(name)
        if stored is not None and stored.shape != shape:
            raise ValueError(f"{file.path} has {name} with the shape {stored.shape}; by its settings it is {shape}")
    if n_blocks > len(file.tensors):
        raise ValueError(f"{file.path} has {count_of(len(file.tensors), 'tensor')} for {n_blocks} blocks; get it again")


def llama_settings(file):
    """Sizes of a model of the architecture llama, with the names of ModernGPT's config; ``tied`` is not among them.

    Raises:
        ValueError: if it is of another architecture, lacks a size, or computes something that ModernGPT does not.
    """
    architecture = file.settings.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{file.path} is of the architecture {architecture!r}; ModernGPT reads llama")
    given = {key.removeprefix("llama."): value for key, value in file.settings.items() if key.startswith("llama.")}
    given.setdefault("vocab_size", len(_list(file, "tokenizer.ggml.tokens")))
    given.setdefault("attention.head_count_kv", given.get("attention.head_count"))
    given.setdefault("rope.freq_base", 10_000.0)
    for ours, name in LLAMA_SIZES.items():
        kind = float if ours in ("rope_base", "norm_eps") else int
        if type(given.get(name)) is not kind or not 0 < given[name] < 2**31:
            raise ValueError(f"{file.path} has {given.get(name)!r} as llama.{name}; a number above 0 is needed")
    config = {ours: given[theirs] for ours, theirs in LLAMA_SIZES.items()}
    if config["emb_dim"] % config["n_heads"] or config["n_heads"] % config["n_kv_heads"]:
        raise ValueError(f"{file.path} has a width of {config['emb_dim']}, {config['n_heads']} heads and "
                         f"{config['n_kv_heads']} with keys; each must be divisible by the next")  # fmt: skip
    _fits(file, config["vocab_size"], config["n_layers"], {
        "token_embd.weight": (config["vocab_size"], config["emb_dim"]),
        "blk.0.ffn_gate.weight": (config["hidden_dim"], config["emb_dim"])})  # fmt: skip
    head_dim = config["emb_dim"] // config["n_heads"]
    for name in LLAMA_SAME_AS_HEAD:
        if given.get(name, head_dim) != head_dim:
            raise ValueError(f"{file.path} has {given[name]} as llama.{name}; ModernGPT takes the width of a head, "
                             f"{head_dim}")  # fmt: skip
    for name in given:
        if name not in (*LLAMA_SIZES.values(), *LLAMA_SAME_AS_HEAD):
            raise ValueError(f"{file.path} asks for llama.{name} = {given[name]!r}, which ModernGPT does not compute")
    return config


def gpt2_settings(file):
    """The entries of a GPTModel's config that a GGUF file of the architecture gpt2 decides.

    Raises:
        ValueError: if a size is missing, or it computes something that GPTModel does not.
    """
    given = {key.removeprefix("gpt2."): value for key, value in file.settings.items() if key.startswith("gpt2.")}
    config = {"vocab_size": len(_list(file, "tokenizer.ggml.tokens"))}
    for ours, theirs in GPT2_SIZES.items():
        config[ours] = given.pop(theirs, None)
        if type(config[ours]) is not int or not 0 < config[ours] < 2**31:
            raise ValueError(f"{file.path} has {config[ours]!r} as gpt2.{theirs}; a whole number above 0 is needed")
    _fits(file, config["vocab_size"], config["n_layers"], {
        "token_embd.weight": (config["vocab_size"], config["emb_dim"]),
        "position_embd.weight": (config["context_length"], config["emb_dim"])})  # fmt: skip
    for name, ours in (("feed_forward_length", 4 * config["emb_dim"]), ("attention.layer_norm_epsilon", 1e-5)):
        value = given.pop(name, ours)
        if not isinstance(value, (int, float)) or not math.isclose(value, ours, rel_tol=1e-4):
            raise ValueError(f"{file.path} has {value} as gpt2.{name}; GPTModel computes with {ours}")
    for name, value in given.items():
        raise ValueError(f"{file.path} asks for gpt2.{name} = {value!r}, which GPTModel does not compute")
    return config | {"qkv_bias": True, "tie_weights": "output.weight" not in file.tensors}


def _byte_characters():
    """The character that stands for each byte in GPT-2's way of writing tokens; see section 2.5 of chapter 2."""
    shown = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (32, 160)]
    place = {byte: 256 + n for n, byte in enumerate(byte for byte in range(256) if byte not in shown)}
    return [chr(place.get(byte, byte)) for byte in range(256)]


def vocabulary(file, splitting):
    """Vocabulary of a byte pair tokenizer: the three dicts of chapter 2's ``read_vocabulary``.

    Bytes that did not occur where the tokenizer was trained may have no token.

    Args:
        splitting: the names of the ways to split a text before merging, of which the file must have one.

    Raises:
        ValueError: if the file has another kind of tokenizer, or its parts do not fit each other.
    """
    settings = file.settings
    kind, split = settings.get("tokenizer.ggml.model"), settings.get("tokenizer.ggml.pre")
    if kind != "gpt2" or split not in splitting:
        raise ValueError(f"{file.path} has a tokenizer of the kind {kind!r} that splits like {split!r}; known is gpt2 "
                         f"with {', '.join(splitting)}")  # fmt: skip
    tokens, merges, types = (_list(file, f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type"))
    if not tokens or len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ValueError(f"{file.path} has {count_of(len(tokens), 'token')}, {len(set(tokens))} different ones, and "
                         f"{len(types)} kinds of them; the three must be one number")  # fmt: skip
    byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
    special = {token: number for number, token in enumerate(tokens) if types[number] != 1}
    try:
        @functools.cache    # merges name the same tokens again and again: one object for each
        def as_bytes(token):
            return bytes(byte_of[character] for character in token)

        id_of = {as_bytes(token): number for number, token in enumerate(tokens) if types[number] == 1}
        pairs = [tuple(map(as_bytes, merge.split(" "))) for merge in merges]
        missing = [pair for pair in pairs if len(pair) != 2 or pair[0] + pair[1] not in id_of]
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{file.path} has a token or merge that is not written in GPT-2's characters for bytes "
                         f"({error})") from error  # fmt: skip
    if missing:
        raise ValueError(f"{file.path} has a vocabulary that does not fit: {missing[0]!r} leads to no token")
    return id_of, {pair: rank for rank, pair in enumerate(pairs)}, special


# Writing ------------------------------------------------------------------------------------------------


def vocabulary_settings(tokenizer, splitting):
    """The settings of a GGUF file that hold a BytePairTokenizer: tokens, their kinds, and merges."""
    characters = _byte_characters()
    as_text = {token: "".join(characters[byte] for byte in token) for token in tokenizer.id_of}
    special = {number: text for text, number in tokenizer.special.items()}
    texts = {number: as_text[token] for token, number in tokenizer.id_of.items()} | special
    if sorted(texts) != list(range(len(texts))):
        raise ValueError(f"the tokenizer's ids have gaps between {min(texts)} and {max(texts)}; a file needs them all")
    pairs = sorted(tokenizer.ranks, key=tokenizer.ranks.get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": splitting,
        "tokenizer.ggml.tokens": [texts[number] for number in range(len(texts))],
        "tokenizer.ggml.token_type": [3 if number in special else 1 for number in range(len(texts))],
        "tokenizer.ggml.merges": [f"{as_text[left]} {as_text[right]}" for left, right in pairs],
        "tokenizer.ggml.add_bos_token": False,
    }


def modelfile(context_length, chats):
    """The text of a ``Modelfile``, with which Ollama takes in the model.gguf beside it.

    Args:
        context_length: the most tokens that the model reads.
        chats: whether it speaks in SmolLM2's form of a conversation; else it only goes on with a text.
    """
    form, stop = "{{ .Prompt }}", ""
    if chats:
        message = "<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
        form = f"{{{{ range .Messages }}}}{message}{{{{ end }}}}<|im_start|>assistant\n"
        stop = 'PARAMETER stop "<|im_end|>"\n'
    return f'FROM ./model.gguf\nTEMPLATE """{form}"""\nPARAMETER num_ctx {context_length}\n{stop}'


def write_gguf(path, architecture, settings, tensors, kind="F32"):
    """Write a GGUF file; an older one of that name stays as it is until the new one is complete.

    Args:
        settings: {"gpt2.block_count": 12, ...}: whole numbers are stored in 32 bits, others as float32, bool, text or
            lists of texts or whole numbers.
        tensors: iterable of (name, float tensor (rows, columns) or (n,)).
        kind: "F32", "F16" or "Q8_0", the form of the matrices. Vectors and positions stay in F32, as llama.cpp asks.

    Raises:
        ValueError: for another kind, or rows that Q8_0's blocks of 32 do not fill.
        OSError: if the file cannot be written.
    """
    import gguf

    if kind not in ("F32", "F16", "Q8_0"):
        raise ValueError(f"the kind must be F32, F16 or Q8_0; it is {kind!r}")
    path = Path(path)
    part = part_of(path)
    writer = gguf.GGUFWriter(None, architecture)
    try:
        for name, value in settings.items():
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
                   list: writer.add_array}[type(value)]  # fmt: skip
            add(name, value)
        for name, tensor in tensors:
            array = tensor.detach().cpu().float().contiguous().numpy()
            form = "F32" if array.ndim == 1 or name.startswith("position_embd") else kind
            if form == "Q8_0" and array.shape[1] % 32:
                raise ValueError(f"{name} has rows of {array.shape[1]} numbers, no multiple of a block's 32; take F16")
            if form == "Q8_0":
                quantized = gguf.quantize(array, gguf.GGMLQuantizationType.Q8_0)
                writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            else:
                writer.add_tensor(name, array.astype(np.float16 if form == "F16" else np.float32, copy=False))
        writer.write_header_to_file(part)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # on a full disk, it tries once more to write the rest
            writer.close()
        part.unlink(missing_ok=True)
