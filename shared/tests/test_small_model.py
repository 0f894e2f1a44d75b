"""The course's small pretrained model: its file, its card, and that it has learnt something."""

import csv
import errno
import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from shared import assets
from shared.assets import gpt2 as gpt2_assets
from shared.compact import FORMAT
from shared.tests.bench_small_model import mixture, ngram_probabilities

FOLDER = gpt2_assets._SMALL_MODEL_FOLDER
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small(ch05):
    """(model in eval mode, config)"""
    settings, params = ch05.download_and_load_gpt2(assets.SMALL_MODEL, "gpt2")
    cfg = ch05.config_of(settings)
    model = ch05.GPTModel(cfg)
    ch05.load_weights_into_gpt(model, params)
    return model.eval(), cfg


# The files -----------------------------------------------------------------------------------------------


def test_the_file_is_compact_and_says_so():
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size < 40e6
    with safe_open(path, framework="np") as file:
        assert file.metadata() == FORMAT
    assert all(array.dtype == (np.int8 if array.ndim == 2 else np.float32) for array in load_file(path).values())
    assert json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["model_type"] == "gpt2"


def test_asked_for_by_its_size_nothing_is_printed_and_it_is_unpacked_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    folder = assets.fetch_gpt2(assets.SMALL_MODEL)
    written = (folder / "model.safetensors").stat()
    assert assets.fetch_gpt2(assets.SMALL_MODEL) == folder and not capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == written.st_mtime_ns
    arrays, packed = load_file(folder / "model.safetensors"), load_file(FOLDER / "model.safetensors")
    assert all(array.dtype == np.float32 for array in arrays.values())
    name = "transformer.wte.weight"
    assert np.array_equal(arrays[name][7], packed[name][7] * packed[f"{name}.scale"][7])


def test_a_damaged_file_is_named(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_bytes((FOLDER / "config.json").read_bytes())
    damaged = bytearray((FOLDER / "model.safetensors").read_bytes())
    damaged[5_000_000] ^= 1      # one bit of one weight
    (tmp_path / "model.safetensors").write_bytes(damaged)
    monkeypatch.setattr(gpt2_assets, "_SMALL_MODEL_FOLDER", tmp_path)
    with pytest.raises(assets.AssetError, match="small model in .* cannot be read .*get the course again"):
        assets.fetch_gpt2(assets.SMALL_MODEL)


def test_a_full_disk_leaves_nothing_half_and_says_what_to_do(monkeypatch, tmp_path):
    def full(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(assets.AssetError, match="No space left on device.*Free some space, or set COURSE_CACHE"):
        assets.fetch_gpt2(assets.SMALL_MODEL)
    assert [path.name for path in tmp_path.glob("small-model-*/*")] == ["config.json"]
    monkeypatch.undo()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    assert len(list(assets.fetch_gpt2(assets.SMALL_MODEL).iterdir())) == 2


def test_the_card_agrees_with_the_files():
    """Size, steps, tokens and losses in the card are those of the files beside it."""
    settings = json.loads((FOLDER / "settings.json").read_text(encoding="utf-8"))
    with open(FOLDER / "log.csv", encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["step"]) == settings["steps"]
    passes = settings["steps"] * settings["global_batch"] / settings["rows"]
    assert 1.35 < passes < 1.4 and "the hundred once, and almost four tenths of them a second time" in CARD
    plain = CARD.replace(",", "")
    assert f"{int(last['tokens'])} tokens" in plain
    for option in ("emb_dim", "n_layers", "n_heads", "steps", "decay_steps", "lr", "min_lr", "warmup_steps",
                   "eval_every"):  # fmt: skip
        assert re.search(rf"--{option.replace('_', '-')} {re.escape(str(settings[option]))}\b", CARD), option
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert (config["n_embd"], config["n_layer"]) == (settings["emb_dim"], settings["n_layers"])
    losses = [float(loss) for loss in re.findall(r"\| +(\d\.\d{4}) +\|", CARD)]
    perplexities = [float(p) for p in re.findall(r"\| +(\d+\.\d) +\|", CARD)]
    assert len(losses) == len(perplexities) >= 4
    for loss, perplexity in zip(losses, perplexities):
        assert math.exp(loss) == pytest.approx(perplexity, rel=2e-3)


def test_the_card_counts_its_books():
    with open(FOLDER / "books.csv", encoding="utf-8", newline="") as file:
        books = list(csv.DictReader(file))
    assert len(books) == len({book["gutenberg_number"] for book in books}) == 105
    for held_out, n_books in (("no", 100), ("yes", 5)):
        part = [book for book in books if book["held_out"] == held_out]
        assert len(part) == n_books
        n_tokens = sum(int(book["gpt2_tokens"]) + 1 for book in part)       # and an end-of-text token each
        assert f"{n_tokens:,}" in CARD
    shared = {book["author"] for book in books if book["held_out"] == "yes"} & {
        book["author"] for book in books if book["held_out"] == "no"
    }
    assert f"({', '.join(sorted(author.split()[-1] for author in shared))})" in CARD
    years = [int(book["first_published"]) for book in books if book["held_out"] == "no"]
    assert f"between {min(years)} and {max(years)}" in CARD
    assert sum(book["author"] == "Edith Wharton" for book in books) == 8 and "Eight books by Edith Wharton" in CARD


# What it has learnt --------------------------------------------------------------------------------------


def test_it_reads_a_text_that_it_has_not_seen(ch05, small, sample_story, gpt2):
    """The story that ships with the course is in none of the books."""
    model, cfg = small
    ids = torch.tensor(gpt2.encode(sample_story))[: 12 * 256 + 1]
    inputs, targets = ids[:-1].view(12, 256), ids[1:].view(12, 256)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
    assert losses.mean() < 5.3
    assert losses[:, 128:].mean() < losses[:, :8].mean() - 0.1     # what came before helps


def test_transformers_reads_its_export(ch05, small, tmp_path):
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model, cfg = small
    ch05.export_gpt2(model, cfg, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor(AutoTokenizer.from_pretrained(tmp_path)("The old house stood on a hill.")["input_ids"])[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-3, rtol=1e-3)


# What it is compared with --------------------------------------------------------------------------------


def test_the_ngram_shares_are_those_of_a_plain_count():
    random = np.random.default_rng(0)
    train, text = random.integers(0, 5, 200), random.integers(0, 6, 60)     # id 5 was never seen
    found = ngram_probabilities(train, text)
    assert found.shape == (58, 4) and (found[:, 0] == 1 / 50_257).all()
    words = train.tolist()
    for place in range(2, len(text)):
        for n in (1, 2, 3):
            wanted = text[place - n + 1 : place + 1].tolist()
            hits = sum(words[i : i + n] == wanted for i in range(len(words) - n + 1))
            # A context at the very end of the training text has no word after it.
            followed = sum(words[i : i + n - 1] == wanted[:-1] for i in range(len(words) - n + 1))
            share = hits / followed if followed else found[place - 2, n - 1]
            assert found[place - 2, n] == pytest.approx(share)
    # Every column is a distribution: over all six ids, and the others of the vocabulary in the uniform share.
    for context in ([0, 1], [5, 1], [0, 5], [5, 5]):
        sums = sum(ngram_probabilities(train, np.array([*context, token]))[0] for token in range(6))
        assert sums[1:] == pytest.approx([1, 1, 1])


def test_the_mixture_finds_the_weights_that_made_the_data():
    random = np.random.default_rng(0)
    shares = random.choice([0.1, 0.9], (20_000, 2))
    # Each outcome is drawn with a probability that is 0.7 of the first guess and 0.3 of the second.
    kept = random.random(20_000) < shares @ [0.7, 0.3]
    weights = mixture(np.where(kept[:, None], shares, 1 - shares))
    assert weights == pytest.approx([0.7, 0.3], abs=0.05)
