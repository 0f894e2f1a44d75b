"""Texts as files of token ids: where they may be cut, and files that are whole or not there."""

import os
import pickle
import random
import signal

import numpy as np
import pytest
import regex
import torch
from torch.utils.data import DataLoader

from shared import token_files
from shared.measure import peak_memory
from shared.tests.test_ch02 import END, random_texts

# Where a text may be cut --------------------------------------------------------------------------------

def test_safe_pieces_may_be_tokenized_one_by_one(gpt2):
    rng = random.Random(4)
    for text in random_texts(300, seed=5):
        cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(6)))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        pieces = list(token_files.safe_pieces(chunks))
        assert "".join(pieces) == text and "" not in pieces
        joined = [i for piece in pieces for i in gpt2.encode(piece, disallowed_special=())]
        assert joined == gpt2.encode(text, disallowed_special=()), (text, pieces)


def test_a_text_may_be_cut_at_every_safe_place_at_once(gpt2):
    """Also inside of languages without spaces, and never inside of the sign that ends a text."""
    pattern = regex.compile(token_files._LAST_SAFE_CUT.pattern.replace("(?rx)", "(?x)"))
    rng, n_cuts = random.Random(8), 0
    for text in random_texts(600, seed=9):
        place = rng.randrange(len(text) + 1)
        text = rng.choice([text, text[:place] + END + text[place:]])
        cuts = [cut.start() for cut in pattern.finditer(text)]
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        joined = [i for piece in pieces for i in gpt2.encode(piece, allowed_special={END})]
        assert joined == gpt2.encode(text, allowed_special={END}), (text, pieces)
        n_cuts += len(cuts)
    assert n_cuts > 8_000


@pytest.mark.parametrize("text, cuts", [
    ("it's 3rd", ["it", "'s", " 3", "rd"]), ("a--b", ["a", "--", "b"]), ("'tis", ["'tis"]),
    ("x1,2", ["x", "1", ",", "2"]),
    (f"a{END}b", ["a", END, "b"]), ("今天，明天。", ["今天", "，", "明天", "。"]),
])  # fmt: skip
def test_where_the_safe_places_are(text, cuts):
    pattern = regex.compile(token_files._LAST_SAFE_CUT.pattern.replace("(?rx)", "(?x)"))
    places = [0, *(cut.start() for cut in pattern.finditer(text)), len(text)]
    assert [text[a:b] for a, b in zip(places, places[1:])] == cuts


def test_safe_pieces_pass_text_on_early():
    """The point of cutting: no more is held back than the last word, or in Chinese than the last clause."""
    pieces = token_files.safe_pieces(["one two three four", " five six", " seven"])
    assert next(pieces) == "one two three"
    sentence = "猫在温暖的屋顶上睡觉，狗在门前等它下来。"
    text = sentence * 500
    pieces = list(token_files.safe_pieces(text[i : i + 64] for i in range(0, len(text), 64)))
    assert "".join(pieces) == text and max(map(len, pieces)) < 64 + len(sentence)


@pytest.mark.parametrize("sentence", ["The cat sleeps on the warm roof. ", "猫在温暖的屋顶上睡觉，狗在门前等它下来。"])
def test_memory_does_not_grow_with_the_text(gpt2, tmp_path, sentence):
    peaks = []
    for n_characters in (100_000, 400_000):
        path = tmp_path / f"{n_characters}.txt"
        path.write_text(sentence * (n_characters // len(sentence)), encoding="utf-8")
        chunks = token_files.read_chunks(path, n_characters=20_000)
        _, peak = peak_memory(lambda chunks=chunks: token_files.write_token_file(chunks, tmp_path / "t", gpt2))
        peaks.append(peak)
    assert peaks[1] < 1.3 * peaks[0]


def test_a_text_in_utf16_is_refused(tmp_path):
    (tmp_path / "t.txt").write_bytes("a text".encode("utf-16-le"))
    with pytest.raises(ValueError, match="t.txt is no text: it holds NUL characters.*save it as UTF-8"):
        list(token_files.read_chunks(tmp_path / "t.txt"))


def test_token_file_holds_the_ids_of_the_whole_text(gpt2, sample_story, tmp_path):
    text = f"{sample_story}{END}{sample_story[:999]}"
    path = tmp_path / "story.tokens"
    n = token_files.write_token_file((text[i : i + 101] for i in range(0, len(text), 101)), path, gpt2)
    want = gpt2.encode(text, allowed_special={END})
    assert n == len(want) and path.stat().st_size == 2 * n
    assert np.fromfile(path, dtype="<u2").tolist() == want and want.count(50_256) == 1


def test_file_dataset_has_the_items_of_the_one_in_memory(ch02, gpt2, sample_story, tmp_path):
    token_files.write_token_file([sample_story], tmp_path / "t", gpt2)
    for length, stride in [(16, 16), (16, 5), (7, 11), (256, 128)]:
        memory = ch02.GPTDatasetV1(sample_story, gpt2, length, stride)
        file = token_files.TokenFileDataset(tmp_path / "t", length, stride)
        assert len(memory) == len(file)
        for a, b in zip(memory, file, strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and b[0].dtype == b[1].dtype == torch.int64
        assert torch.equal(file[-1][0], memory[-1][0])
        with pytest.raises(IndexError):
            file[len(file)]
    file[0][0][:] = 0  # what is handed out is the caller's own
    assert file[0][0].tolist() != [0] * 256


def test_file_dataset_opens_its_own_map_in_each_process(gpt2, sample_story, tmp_path):
    token_files.write_token_file([sample_story], tmp_path / "t", gpt2)
    dataset = token_files.TokenFileDataset(tmp_path / "t", 32, 32)
    first = dataset[0][0]
    assert len(pickle.dumps(dataset)) < 1_000  # a memory map would be sent as a copy of its content
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0][0], first)
    batches = [x for x, _ in DataLoader(dataset, batch_size=8, num_workers=2)]
    assert torch.equal(torch.cat(batches), torch.stack([x for x, _ in dataset]))


def test_broken_token_files_are_named(gpt2, tmp_path):
    path = tmp_path / "t"
    with pytest.raises(FileNotFoundError):
        token_files.TokenFileDataset(path, 4, 4)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="t has 3 bytes.*cut short"):
        token_files.TokenFileDataset(path, 4, 4)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="too short for max_length 4"):
        token_files.TokenFileDataset(path, 4, 4)


def test_an_interrupted_write_leaves_the_old_file(gpt2, tmp_path):
    path = tmp_path / "t"
    token_files.write_token_file(["the old text"], path, gpt2)
    before = path.read_bytes()

    def failing():
        yield "the new text "
        yield "goes on "
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        token_files.write_token_file(failing(), path, gpt2)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["t"]


def test_ids_beyond_16_bits_are_refused(tmp_path):
    class LargeVocabulary:
        def encode(self, text, allowed_special=()):
            return [65_535, 65_536]

    with pytest.raises(ValueError, match="65536 does not fit"):
        token_files.write_token_file(["x"], tmp_path / "t", LargeVocabulary())
    LargeVocabulary.encode = lambda self, text, allowed_special=(): [3, -1]
    with pytest.raises(ValueError, match="-1 does not fit"):
        token_files.write_token_file(["x"], tmp_path / "t", LargeVocabulary())
    assert os.listdir(tmp_path) == []
    LargeVocabulary.encode = lambda self, text, allowed_special=(): [0, 65_535]
    assert token_files.write_token_file(["x"], tmp_path / "t", LargeVocabulary()) == 2


@pytest.mark.parametrize("chunks", [[], [""], ["", ""]])
def test_a_text_without_tokens_is_refused(gpt2, tmp_path, chunks):
    (tmp_path / "t").write_bytes(b"old!")
    with pytest.raises(ValueError, match="no tokens"):
        token_files.write_token_file(chunks, tmp_path / "t", gpt2)
    assert (tmp_path / "t").read_bytes() == b"old!" and os.listdir(tmp_path) == ["t"]


def test_a_full_disk_leaves_the_old_file(gpt2, tmp_path):
    """Small pieces are buffered; an error while the buffer is written must not pass unnoticed."""
    resource = pytest.importorskip("resource")
    (tmp_path / "t").write_bytes(b"old!")
    text = "one two three four " * 7_500
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limits[1]))
    try:
        with pytest.raises(OSError):
            chunks = [text[i : i + 1_000] for i in range(0, len(text), 1_000)]
            token_files.write_token_file(chunks, tmp_path / "t", gpt2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "t").read_bytes() == b"old!" and os.listdir(tmp_path) == ["t"]


def test_a_file_that_was_replaced_is_noticed(gpt2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    token_files.write_token_file(["one two three " * 100], "t", gpt2)
    dataset = token_files.TokenFileDataset("t", 8, 8)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert len(dataset[len(dataset) - 1][0]) == 8  # the path was relative, and the folder has changed
    stored = pickle.dumps(dataset)
    for text in ("one two three " * 10, "six two three " * 100):  # shorter, and as long as before
        token_files.write_token_file([text], tmp_path / "t", gpt2)
        with pytest.raises(ValueError, match="was replaced"):
            pickle.loads(stored)[0]


def test_the_map_is_opened_once(gpt2, tmp_path):
    token_files.write_token_file(["one two three " * 100], tmp_path / "t", gpt2)
    dataset = token_files.TokenFileDataset(tmp_path / "t", 8, 8)
    dataset[0]
    first = dataset.tokens
    dataset[1]
    assert dataset.tokens is first


def test_files_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.txt is not UTF-8"):
        list(token_files.read_chunks(path))


def test_reading_in_chunks_keeps_every_character(tmp_path):
    text = "Größe\r\n猫\n" * 50
    (tmp_path / "t.txt").write_bytes(text.encode())
    for n in (1, 7, 1000):
        assert "".join(token_files.read_chunks(tmp_path / "t.txt", n)) == text
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())  # as some editors save it
    assert "".join(token_files.read_chunks(tmp_path / "t.txt")) == text
    with pytest.raises(ValueError, match="n_characters must be a whole number, 1 or more; it is 0"):
        list(token_files.read_chunks(tmp_path / "t.txt", 0))
