"""Texts as files of 16-bit token ids, for data that does not fit into memory.

Appendix D (section D.9) shows the idea in a few lines. This is the form for real corpora: texts are read and tokenised
in parts, a file is whole or not there, and one that was cut short, or written anew with other contents before it is
read, is noticed.
"""

import os

import numpy as np
import regex
import torch
from torch.utils.data import Dataset

from shared import guards
from shared.course import whole_file

# Where a text may be cut so that tokenising the parts gives the tokens of the whole. The pattern by which GPT-2 splits
# a text has no piece in which white space comes after anything else, and none in which letters, digits and other signs
# stand together, except that an apostrophe may lead letters. And <|endoftext|> must stay whole.
# (?r) searches from the end.
_LAST_SAFE_CUT = regex.compile(
    r"""(?rx)
      (?<=\S)(?=\s)                                         # before white space
    | (?<=\p{L})(?<!<\|endoftext)(?=[^\s\p{L}])             # after letters
    | (?<=\p{N})(?=[^\s\p{N}])                              # after digits
    | (?<=[^\s\p{L}\p{N}])(?=\p{N})                         # from a sign to a digit
    | (?<=[^\s\p{L}\p{N}'])(?<!<\|)(?=\p{L})                # from a sign to a letter
    """
)
_LOOKS_BACK = len("<|endoftext") + 1


def read_chunks(path, n_characters=200_000):
    """Read a UTF-8 text file in parts.

    Raises:
        ValueError: if it is not UTF-8, or holds NUL characters, as UTF-16 read as UTF-8 does; names the file.
    """
    guards.whole_numbers(n_characters=n_characters)
    with open(path, encoding="utf-8-sig", newline="") as file:  # -sig: without the mark that some editors set
        try:
            while chunk := file.read(n_characters):
                if "\0" in chunk:
                    raise ValueError(f"{path} is no text: it holds NUL characters. It was probably saved with the "
                                     "encoding UTF-16; save it as UTF-8 first")  # fmt: skip
                yield chunk
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8 first") from error


def safe_pieces(chunks):
    """Regroup parts of a text so that tokenising each by itself gives the tokens of the whole.

    Holds for tokenizers that split like GPT-2's. What is held back is at most one run of letters, of digits or of
    other signs.

    Args:
        chunks: iterable of str, cut anywhere.

    Yields:
        str; joined, they are the text.
    """
    held = ""
    for chunk in chunks:
        # What was held back has no safe cut inside; only its end can matter to a new one.
        searched_from = max(0, len(held) - _LOOKS_BACK)
        held += chunk
        cut = _LAST_SAFE_CUT.search(held, searched_from)
        if cut:
            yield held[: cut.start()]
            held = held[cut.start() :]
    if held:
        yield held


def write_token_file(chunks, path, tokenizer):
    """Tokenise a text, part by part, into a file of 16-bit little-endian ids.

    Args:
        chunks: iterable of str, for example ``read_chunks(path)``; ``<|endoftext|>`` becomes the special token.
        path: the file to write; an existing one is replaced only when the new one is complete.
        tokenizer: anything with tiktoken's ``encode`` that splits like GPT-2.

    Returns:
        The number of tokens written.

    Raises:
        ValueError: if there is no token at all, or an id does not fit into 16 bits.
        OSError: if the disk is full, or on Windows if a data set still reads the old file.
    """
    n_tokens = 0
    with whole_file(path) as file:
        for piece in safe_pieces(chunks):
            ids = np.array(tokenizer.encode(piece, allowed_special={"<|endoftext|>"}), dtype=np.int64)
            for wrong in ids[(ids < 0) | (ids > 65_535)][:1]:
                raise ValueError(f"id {wrong} does not fit into 16 bits, 0 to 65535")
            n_tokens += len(ids)
            file.write(ids.astype("<u2").tobytes())
        if n_tokens == 0:
            raise ValueError(f"the text for {path} has no tokens; nothing was written")
    return n_tokens


def size_and_time(path):
    """Bytes of a file, and when it was last written, in nanoseconds."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


class TokenFileDataset(Dataset):
    """The rows of chapter 2's GPTDatasetV1, read from a file of ``write_token_file`` as they are asked for.

    Args:
        path: the file of 16-bit ids.
        max_length: L, tokens in a row.
        stride: tokens from the start of one row to the start of the next.

    Item i is a pair of int64 tensors (L,), the second one token later.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file was cut short, is too short for one row, or was replaced since.
    """

    def __init__(self, path, max_length, stride):
        # The whole path: a worker may be started in another folder.
        self.path, self.tokens = os.path.abspath(path), None
        self.n_bytes, self.changed = size_and_time(self.path)
        if self.n_bytes % 2:
            raise ValueError(f"{path} has {self.n_bytes} bytes, an odd number: it was cut short. Write it again")
        guards.room_for_a_row(self.n_bytes // 2, max_length, stride)
        self.max_length = int(max_length)
        self.starts = range(0, self.n_bytes // 2 - self.max_length, int(stride))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        if self.tokens is None:
            if size_and_time(self.path) != (self.n_bytes, self.changed):
                raise ValueError(f"{self.path} was replaced since this data set was made; make the data set again")
            self.tokens = np.memmap(self.path, dtype="<u2", mode="r")
        start = self.starts[idx]
        row = torch.from_numpy(self.tokens[start : start + self.max_length + 1].astype(np.int64))  # (L + 1,)
        return row[:-1], row[1:]

    def __getstate__(self):
        # On Windows and macOS workers get the data set pickled, and a map would be sent as a copy of all it holds.
        return {**self.__dict__, "tokens": None}
