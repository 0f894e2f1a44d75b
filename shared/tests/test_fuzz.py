"""Arbitrary input to what learners and files feed: either it works as documented, or it is refused with ValueError.

Each test tries 60 cases; ``FUZZ_CASES=2000`` tries so many (the figure in a release note comes from that).
"""

import copy
import csv
import io
import json
import os

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared import exercises, gguf_files, token_files
from shared.carry import load_chapter
from shared.checkpoints import Progress, load_checkpoint, save_checkpoint
from shared.course import FileProblem, chapter_notebook, read_notebook
from shared.records import page
from shared.records.solutions import solutions_in
from shared.study import progress, questions
from shared.tests.test_exercises import SOLUTION, all_exercises

fuzz = settings(max_examples=int(os.environ.get("FUZZ_CASES") or 60), deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck))  # fmt: skip

numbers = st.one_of(st.integers(-3, 12), st.sampled_from([None, True, 2.5, float("nan"), float("inf"), -1e9, 10**30]))
texts = st.text(st.characters(codec="utf-8"), max_size=60)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4),
                            st.tuples(inner, inner)), max_leaves=8)  # fmt: skip
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8)  # fmt: skip


def spoilt(data, changes):
    """Bytes with some of them changed, taken away or put in: changes are (place as a share, kind, byte)."""
    data = bytearray(data)
    for share, kind, byte in changes:
        place = int(share * len(data))
        if kind == "cut":
            del data[place:]
        elif kind == "put":
            data[place:place] = bytes([byte])
        elif place < len(data):
            data[place] = byte
    return bytes(data)


kinds = st.sampled_from(["set", "set", "set", "put", "cut"])
changes = st.lists(st.tuples(st.floats(0, 1), kinds, st.integers(0, 255)), min_size=1, max_size=6)


# Generating ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(ch05):
    torch.manual_seed(1)
    cfg = {"vocab_size": 30, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0,
           "qkv_bias": False}  # fmt: skip
    return ch05.GPTModel(cfg).eval()


@fuzz
@given(st.integers(0, 3), st.integers(0, 12), st.integers(-1, 30), st.integers(-2, 6), numbers,
       st.one_of(numbers, st.floats()), numbers, st.one_of(st.none(), st.floats()),
       st.one_of(st.none(), st.integers(-1, 31)), st.booleans())  # fmt: skip
def test_generate(ch05, tiny, n_texts, n_tokens, token, n_new, context, temperature, top_k, top_p, eos_id, use_cache):
    ids = torch.full((n_texts, n_tokens), token)
    before = ids.clone()
    try:
        new = ch05.generate(tiny, ids, n_new, context, temperature, top_k, eos_id, top_p, use_cache)
    except ValueError:
        return
    assert torch.equal(ids, before) and torch.equal(new[:, :n_tokens], before)
    assert n_tokens <= new.shape[1] <= n_tokens + n_new and new.dtype == torch.int64
    assert n_texts == 0 or n_new == 0 or (new.min() >= 0 and new.max() < 30) or eos_id is not None


@fuzz
@given(st.lists(st.lists(st.integers(-1, 30), max_size=10), max_size=4), st.integers(-1, 6), st.integers(-1, 9),
       st.floats(0, 3), st.one_of(st.none(), st.integers(0, 31)))  # fmt: skip
def test_generate_batch(tiny, ch07, prompts, n_new, context, temperature, top_k):
    try:
        new = ch07.generate_batch(tiny, prompts, n_new, context, temperature, top_k, eos_id=3, pad_token_id=0)
    except ValueError:
        return
    assert len(new) == len(prompts) and all(len(ids) <= n_new and 3 not in ids for ids in new)


@fuzz
@given(st.lists(st.floats(width=32), min_size=1, max_size=9), st.integers(-1, 12), st.floats(), st.floats())
@example([float("-inf"), 1.0], 1, 1.0, 0.5)
def test_the_ways_to_draw(ch05, logits, top_k, top_p, temperature):
    row = torch.tensor([logits])
    for draw in (lambda: ch05.softmax_with_temperature(row, temperature),
                 lambda: ch05.keep_top_p(row.softmax(-1), top_p)):  # fmt: skip
        try:
            p = draw()
        except ValueError:
            continue
        assert p.shape == row.shape and (torch.isnan(p).any() or (p >= 0).all())
    try:
        kept = ch05.keep_top_k(row, top_k)
    except ValueError:
        return
    assert (kept[torch.isfinite(kept)].unsqueeze(1) == row.flatten()).any(1).all()


# Data ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ch06():
    return load_chapter("ch06_classification")


@pytest.fixture(scope="module")
def ch07():
    return load_chapter("ch07_instruction")


@fuzz
@given(texts, numbers, numbers)
def test_rows_of_a_text(ch02, gpt2, text, max_length, stride):
    try:
        rows = ch02.GPTDatasetV1(text, gpt2, max_length, stride)
    except ValueError:
        return
    ids = gpt2.encode(text, allowed_special={"<|endoftext|>"})
    for place, (inputs, targets) in zip(range(0, len(ids), int(stride)), rows):
        assert inputs.tolist() == ids[place : place + int(max_length)]
        assert targets[:-1].tolist() == inputs[1:].tolist()


@fuzz
@given(st.lists(st.tuples(st.sampled_from(["0", "1", "spam", "", "1.0"]), texts), max_size=6), numbers, st.booleans())
def test_messages_as_rows(ch06, gpt2, tmp_path_factory, rows, max_length, header):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("Label", "Text")] * header + rows)
    try:
        data = ch06.SpamDataset(path, gpt2, max_length)
    except ValueError:
        return
    assert len(data) == len(rows) and data.ids.shape == (len(rows), data.max_length)


@fuzz
@given(st.binary(max_size=200) | st.lists(st.sampled_from(["ham\thello", "spam\tWIN", "x\ty", "ham", '"', "ham\t"]),
                                          max_size=5).map(lambda lines: "\n".join(lines).encode()))  # fmt: skip
def test_a_file_of_messages(ch06, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.tsv"
    path.write_bytes(data)
    try:
        table = ch06.read_messages(path)
    except ValueError:
        return
    assert set(table["Label"]) <= {"ham", "spam"} and table["Text"].map(str.strip).all()


@fuzz
@given(st.lists(st.lists(st.integers(0, 50_000), max_size=7), max_size=5), numbers)
def test_rows_of_tasks(ch07, batch, longest):
    try:
        inputs, targets = ch07.custom_collate_fn(batch, allowed_max_length=longest)
    except ValueError:
        return
    assert inputs.shape == targets.shape and inputs.shape[0] == len(batch)
    width = inputs.shape[1]
    for row, read, wanted in zip(batch, inputs.tolist(), targets.tolist()):
        assert read[: len(row)] == row[:width]                             # nothing lost but what is cut
        assert wanted[: len(row)] == [*row[1:], 50256][:width]              # the next token, and an end
        assert set(wanted[len(row) :]) <= {-100}                            # and nothing else counts


@fuzz
@given(st.one_of(json_values, st.lists(st.fixed_dictionaries({"instruction": texts, "input": texts, "output": texts}),
                                       max_size=3)))  # fmt: skip
def test_a_file_of_instructions(ch07, gpt2, tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        data = ch07.read_instructions(path)
    except ValueError:
        return
    rows = ch07.InstructionDataset(data, gpt2)
    for entry, ids in zip(data, rows):
        assert gpt2.decode(ids) == ch07.format_entry(entry)


# Files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(ch05, tiny, tmp_path_factory):
    """A folder with a small file of each kind, as bytes by kind."""
    folder = tmp_path_factory.mktemp("files")
    optimizer = torch.optim.AdamW(tiny.parameters())
    save_checkpoint(folder / "checkpoint", tiny, optimizer, {"a": 1}, Progress(1))
    tokenizer = ch05.DigitTokenizer.__new__(ch05.DigitTokenizer)
    tokenizer.use({bytes([byte]): byte + 3 for byte in range(256)}, {},
                  {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2})  # fmt: skip
    cfg = {"vocab_size": 259, "context_length": 16, "emb_dim": 32, "hidden_dim": 32, "n_heads": 2, "n_kv_heads": 1,
           "n_layers": 1, "rope_base": 10_000.0, "norm_eps": 1e-5, "tie_weights": True}  # fmt: skip
    ch05.export_gguf(ch05.ModernGPT(cfg), folder, "Q8_0", tokenizer)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@fuzz
@given(changes)
def test_a_damaged_gguf_file(ch05, files, tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(spoilt(files["model.gguf"], changes))
    try:
        file = gguf_files.GgufFile(path)
        for name in file.tensors:
            file.tensor(name)
        ch05.load_gguf(path)
    except ValueError:
        pass


@fuzz
@given(changes)
def test_a_damaged_checkpoint(files, tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fuzz.pth"
    path.write_bytes(spoilt(files["checkpoint"], changes))
    try:
        assert "model_state_dict" in load_checkpoint(path)
    except ValueError:
        pass


@fuzz
@given(st.binary(max_size=40), numbers, numbers)
def test_a_file_of_tokens(tmp_path_factory, data, max_length, stride):
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(data)
    try:
        rows = token_files.TokenFileDataset(path, max_length, stride)
    except ValueError:
        return
    whole = np.frombuffer(data, "<u2").astype(np.int64)
    for inputs, targets in rows:
        assert inputs.shape == targets.shape and set(inputs.tolist()) <= set(whole.tolist())


@fuzz
@given(st.binary(max_size=300) | texts.map(str.encode))
def test_a_text_to_prepare(gpt2, tmp_path_factory, data):
    path, target = tmp_path_factory.getbasetemp() / "fuzz.txt", tmp_path_factory.getbasetemp() / "fuzz.ids"
    path.write_bytes(data)
    try:
        token_files.write_token_file(token_files.read_chunks(path, 7), target, gpt2)
    except ValueError:
        return
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="").read().removeprefix("\ufeff")
    assert np.fromfile(target, np.uint16).tolist() == gpt2.encode(text, disallowed_special=())


NOTEBOOK = chapter_notebook("appendix_d_training_loop").read_bytes()


@fuzz
@given(st.one_of(changes.map(lambda each: spoilt(NOTEBOOK[-30_000:], each)), st.binary(max_size=50),
                 json_values.map(lambda value: json.dumps(value).encode()),
                 json_values.map(lambda value: json.dumps({"cells": value}).encode()),
                 st.lists(st.fixed_dictionaries({"cell_type": st.just("code"), "source": texts}), max_size=4).map(
                     lambda cells: json.dumps({"cells": cells}).encode())))  # fmt: skip
def test_a_notebook(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.ipynb"
    path.write_bytes(data)
    try:
        book = read_notebook(path)
        found = solutions_in(path)
    except FileProblem:
        return
    assert all(cell["cell_type"] for cell in book["cells"]) and all(each["exercise"] for each in found)


ENTRY = {"exercise": "2.1", "solution": "x", "needs": [], "attempts": [], "outcome": "right", "solved": None,
         "tries": 1}  # fmt: skip
RECORD = page.as_html({"format": 1, "learner": "Ada", "made": "2026-02-01", "versions": {}, "quizzes": [], "cards": 1,
                       "exercises": [ENTRY]}).encode()  # fmt: skip


@fuzz
@given(changes)
def test_a_record_that_was_changed(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fuzz.html"
    data = spoilt(RECORD, changes)
    path.write_bytes(data)
    try:
        _, untouched = page.read(path)
    except FileProblem:
        return
    # Read as text, line ends are one character; whatever else is another file is another page.
    assert not untouched or data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == RECORD


@fuzz
@given(st.one_of(anything.map(repr).map(str.encode), json_values.map(
    lambda value: json.dumps({kind: value for kind in progress.KINDS}).encode()), st.binary(max_size=40)))  # fmt: skip
def test_what_is_kept_of_the_progress(tmp_path_factory, monkeypatch, data):
    folder = tmp_path_factory.getbasetemp() / "fuzz-progress"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("COURSE_PROGRESS", str(folder))
    (folder / "progress.json").write_bytes(data)
    kept = progress.load()
    assert set(kept) == set(progress.KINDS)
    progress.record_exercise("2.1", "right")
    assert progress.load()["exercises"]["2.1"]["solved"]


QUESTIONS = (questions.FOLDER / "ch03.yaml").read_text(encoding="utf-8")


@fuzz
@given(st.one_of(json_values, st.tuples(st.integers(0, 200), anything)))
def test_questions(value):
    """A question of any form, or a good one of which one field is anything: a fault in words, or none."""
    question = value
    if isinstance(value, tuple):
        question = copy.deepcopy(GOOD_QUESTIONS[value[0] % len(GOOD_QUESTIONS)])
        fields = sorted(question)
        question[fields[value[0] % len(fields)]] = value[1]
    fault = questions.fault_of(question)
    assert fault is None or (isinstance(fault, str) and fault)


GOOD_QUESTIONS = yaml.safe_load(QUESTIONS)


@fuzz
@given(changes)
def test_a_damaged_file_of_questions(tmp_path_factory, monkeypatch, changes):
    folder = tmp_path_factory.getbasetemp() / "fuzz-questions"
    folder.mkdir(exist_ok=True)
    (folder / "ch03.yaml").write_bytes(spoilt(QUESTIONS.encode(), changes))
    monkeypatch.setattr(questions, "FOLDER", folder)
    questions.chapter_questions.cache_clear()
    try:
        questions.chapter_questions("ch03")
    except ValueError:
        pass
    finally:
        questions.chapter_questions.cache_clear()


# Checks ----------------------------------------------------------------------------------------------------

answers = st.one_of(anything, st.sampled_from([torch.zeros(2, 3), torch.tensor(1.0), torch.tensor([1, 2]), np.zeros(3),
                                               torch.nn.Linear(2, 2), object(), int, ValueError]))  # fmt: skip


@fuzz
@given(st.sampled_from(sorted(all_exercises())), answers, st.booleans())
def test_any_answer_gets_a_verdict(name, answer, raises):
    def attempt(*_, **__):
        if raises:
            raise KeyError(answer)
        return answer

    attempts = [attempt, *SOLUTION[name][1:]]
    verdict = exercises.judge(name, *attempts)
    assert verdict.outcome == "wrong" and verdict.detail
    not_even_a_function = exercises.judge(name, answer, *SOLUTION[name][1:])
    assert not_even_a_function.outcome in ("wrong", "not written yet")
