"""The benchmark command: what it computes from times, and that its parts run. Nothing here asserts a time."""

import argparse
import csv

import pytest
import tiktoken
import torch

from shared import bench
from shared.bench import limits, parts, table


def test_ways_take_turns_and_the_first_round_does_not_count():
    calls = []
    seconds = table.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, runs=3)
    assert calls == ["a", "b"] * 4 and [len(each) for each in seconds.values()] == [3, 3]


def test_rows_have_ratio_and_share_and_go_into_a_file(tmp_path, capsys):
    made = table.Table()
    medians = made.add_times("train", {"ours": [3.0, 1.0, 2.0], "theirs": [4.0, 4.0, 8.0]}, "theirs", limit=1.0)
    assert medians == {"ours": 2.0, "theirs": 4.0}
    made.write(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and "torch 2.13.0" in lines[0] and lines[1] == f"# {table.date()}"
    rows = list(csv.DictReader(lines[2:]))
    assert rows[0] == {"part": "train", "what": "ours", "value": "2.0", "unit": "s", "beside": "theirs", "ratio": "0.5",
                       "of the limit": "0.5"}  # fmt: skip
    assert rows[1]["ratio"] == "" and rows[1]["of the limit"] == "0.25"
    assert "0.50 x theirs   50% of the limit" in capsys.readouterr().out


def test_limits_are_numbers_of_this_machine(monkeypatch):
    monkeypatch.setattr(limits, "LAYERS", {(8, 8): 2, (8, 16): 1})
    calls = []
    monkeypatch.setattr(limits, "seconds_of", lambda product, runs: calls.append(product().shape) or 0.5)
    # Three products of each layer, forward and the two backward, each of 2 * 4 * in * out operations.
    operations = 3 * 2 * 4 * (2 * 8 * 8 + 8 * 16)
    assert limits.matrix_products(4, torch.device("cpu"), runs=1) == operations / (3 * (2 + 1) * 0.5)
    assert calls == [(4, 8), (4, 8), (8, 8), (4, 16), (4, 8), (16, 8)]


@pytest.mark.parametrize("spaces", [True, False])
def test_texts_have_their_size(spaces):
    text = parts.words_of(0.05, spaces)
    assert 50_000 <= len(text.encode()) < 60_000 and (" " in text) == spaces


def test_the_operations_are_those_of_the_matrix_products(ch05):
    """Forward, and twice that backward: 6 operations a token and weight; on the CPU without the fused attention."""
    cfg = {"vocab_size": 100, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0,
           "qkv_bias": False}  # fmt: skip
    model = ch05.GPTModel(cfg)
    ids = torch.zeros(2, 9, dtype=torch.int64)
    matrices = 4 * 16 * 16 + 2 * 16 * 64 + 16 * 100
    assert parts.operations(model, ids) == 3 * 2 * matrices * 2 * 8


@pytest.mark.parametrize("name", ["train", "tune", "generate", "start"])
def test_a_part_runs(name):
    made = table.Table()
    parts.PARTS[name](made, argparse.Namespace(quick=True, runs=1, notebooks=None, all_sizes=False))
    assert len(made.rows) >= 4 and all(value > 0 for _, _, value, *_ in made.rows)


@pytest.mark.parametrize("spaces", [True, False])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_building_rows_counts_them_and_its_own_memory(tmp_path, kind, spaces):
    """A process that has just begun takes less than this one, whatever this one has taken before."""
    text = tmp_path / "text.txt"
    text.write_text(parts.words_of(0.05, spaces), encoding="utf-8", newline="")
    seconds, megabytes, n_rows = parts.child(["-c", parts.BUILDING.format(root=str(parts.ROOT)), str(text), kind], kind)
    tokens = tiktoken.get_encoding("gpt2").encode(text.read_text(encoding="utf-8"))
    assert n_rows == (len(tokens) - 1) // 256 > 10 and 0 < seconds and 0 <= megabytes < 60


def test_what_it_may_be_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parts, "PARTS", {"start": lambda made, options: made.add("start", "x", 1.0, "s")})
    assert bench.main(["start", "--csv", str(tmp_path / "t.csv")]) == 0
    assert "start,x,1.0,s" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert bench.main(["--csv", str(tmp_path / "no" / "folder.csv")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    for wrong in (["elsewhere"], ["--runs", "0"]):
        with pytest.raises(SystemExit):
            bench.main(wrong)
