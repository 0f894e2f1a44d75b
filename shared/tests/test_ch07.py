"""Chapter 7: entries, forms, batches, answers and their scores; all at tiny sizes."""

import json

import pytest
import tiktoken
import torch
from torch.nn.functional import cross_entropy

from shared import guards
from shared.assets import SAMPLES, find
from shared.carry import load_chapter

CFG = {"vocab_size": 50257, "context_length": 96, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}
CFG |= {"qkv_bias": True}
EOS = 50256
ROWS = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]


@pytest.fixture(scope="session")
def ch07():
    """The code of chapters 2 to 7 as a module."""
    return load_chapter("ch07_instruction")


@pytest.fixture(scope="session")
def tokenizer():
    return tiktoken.get_encoding("gpt2")


def entry(instruction="Add.", given="1 and 2", output="3"):
    return {"instruction": instruction, "input": given, "output": output}


# Entries --------------------------------------------------------------------------------------------------


def write(path, what):
    path.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    return path


def test_reads_entries_as_they_stand(ch07, tmp_path):
    data = [entry(output=" 3 \n"), entry(given="")]
    assert ch07.read_instructions(write(tmp_path / "data.json", data)) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([entry(), {"instruction": "a", "input": ""}], "entry 1 has no 'output'; it has 'instruction', 'input'"),
        ([entry(), entry(output=3)], "output of entry 1 is 3; it must be a text"),
        ([entry(given=None)], "input of entry 0 is None; it must be a text"),
        ([entry(), entry(), entry(output=" \n")], "output of entry 2 is empty"),
        ([entry(instruction="")], "instruction of entry 0 is empty"),
        ([entry(), "text"], "entry 1 is str, not a dictionary"),
        ({"a": 1}, "expected a list with at least one entry, got dict"),
        ([], "got list without entries"),
    ],
)
def test_a_faulty_entry_is_named(ch07, tokenizer, tmp_path, data, message):
    path = write(tmp_path / "data.json", data)
    with pytest.raises(ValueError) as error:
        ch07.read_instructions(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    with pytest.raises(ValueError, match="entry|entries"):
        ch07.InstructionDataset(data, tokenizer)


def test_broken_json_is_named_with_its_line(ch07, tmp_path):
    path = write(tmp_path / "data.json", '[\n {"instruction": "a",\n  "input" "b"}]')
    with pytest.raises(ValueError, match="is no JSON: line 3, column 11"):
        ch07.read_instructions(path)


def test_another_encoding_is_named(ch07, tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes('[{"instruction": "é"}]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"not encoded in UTF-8 \(byte 18\)"):
        ch07.read_instructions(path)


# Forms ----------------------------------------------------------------------------------------------------


def test_the_form_of_alpaca(ch07):
    intro = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    )
    assert ch07.format_input(entry()) == intro + "### Instruction:\nAdd.\n\n### Input:\n1 and 2"
    assert ch07.format_input(entry(given="")) == intro + "### Instruction:\nAdd."
    assert ch07.format_entry(entry(given="")) == intro + "### Instruction:\nAdd.\n\n### Response:\n3"


@pytest.mark.parametrize("n", [20, 23, 1_100, 1_150])
def test_parts_in_the_order_of_the_file(ch07, n):
    train, test, validation = ch07.split_entries(list(range(n)))
    assert train + test + validation == list(range(n))
    assert (len(train), len(test)) == (int(0.85 * n), int(0.10 * n))


def test_shares_that_leave_nothing_are_refused(ch07):
    with pytest.raises(ValueError, match="must leave something over"):
        ch07.split_entries([1, 2, 3], 0.9, 0.1)


def test_rows_are_lists_of_the_whole_text(ch07, tokenizer):
    data = [entry(), entry(given="", output="a <|endoftext|> b")]
    dataset = ch07.InstructionDataset(data, tokenizer)
    assert len(dataset) == 2 and dataset.data is data and all(type(row) is list for row in dataset.encoded_texts)
    assert [tokenizer.decode(dataset[i]) for i in range(2)] == [ch07.format_entry(e) for e in data]
    assert EOS not in dataset[1]  # the letters are letters


# Batches --------------------------------------------------------------------------------------------------


def as_lists(pair):
    return [side.tolist() for side in pair]


def test_the_known_batch(ch07):
    before = [list(row) for row in ROWS]
    assert as_lists(ch07.custom_collate_fn(ROWS)) == [
        [[0, 1, 2, 3, 4], [5, 6, EOS, EOS, EOS], [7, 8, 9, EOS, EOS]],
        [[1, 2, 3, 4, EOS], [6, EOS, -100, -100, -100], [8, 9, EOS, -100, -100]],
    ]
    assert before == ROWS  # the dataset's own lists
    assert as_lists(ch07.custom_collate_fn(ROWS, allowed_max_length=3)) == [
        [[0, 1, 2], [5, 6, EOS], [7, 8, 9]],
        [[1, 2, 3], [6, EOS, -100], [8, 9, EOS]],
    ]
    assert as_lists(ch07.custom_collate_fn([[1, 2]])) == [[[1, 2]], [[2, EOS]]]


def test_other_padding_and_ignored_targets(ch07):
    inputs, targets = ch07.custom_collate_fn([[1, 2, 3], [4]], pad_token_id=9, ignore_index=-1)
    assert as_lists((inputs, targets)) == [[[1, 2, 3], [4, 9, 9]], [[2, 3, 9], [9, -1, -1]]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_an_end_token_inside_a_row_is_a_token_like_any_other(ch07):
    _, targets = ch07.custom_collate_fn([[1, EOS, 2], [3, 4, 5, 6, 7]])
    assert targets[0].tolist() == [EOS, 2, EOS, -100, -100]


def test_each_row_has_a_target_also_when_cut_to_one(ch07):
    inputs, targets = ch07.custom_collate_fn(ROWS, allowed_max_length=1)
    assert targets.tolist() == [[1], [6], [8]] and inputs.shape == (3, 1)


@pytest.mark.parametrize(
    ("batch", "length", "message"),
    [([], None, "no rows"), ([[1], []], None, "row 1 of the batch has no ids"), (ROWS, 0, "allowed_max_length must")],
)
def test_batches_without_ids_are_refused(ch07, batch, length, message):
    with pytest.raises(ValueError, match=message):
        ch07.custom_collate_fn(batch, allowed_max_length=length)


def test_padding_does_not_change_the_loss(ch07):
    """The loss of a batch is the mean over the real targets of its rows, each taken alone."""
    torch.manual_seed(0)
    model = ch07.GPTModel(CFG).eval()
    inputs, targets = ch07.custom_collate_fn(ROWS)
    with torch.no_grad():
        together = ch07.calc_loss_batch(inputs, targets, model, "cpu")
        alone = [ch07.custom_collate_fn([row]) for row in ROWS]
        total = sum(cross_entropy(model(x)[0], y[0], reduction="sum") for x, y in alone)
    torch.testing.assert_close(together, total / sum(map(len, ROWS)))


# Answers --------------------------------------------------------------------------------------------------


class Scripted(torch.nn.Module):
    """Writes given ids after any prompt, one after the other."""

    def __init__(self, ids, prompt_length):
        super().__init__()
        self.ids, self.prompt_length = ids, prompt_length
        self.pos_emb = torch.nn.Embedding(4_096, 1)

    def forward(self, idx):
        place = idx.shape[1] - self.prompt_length
        logits = torch.zeros(1, idx.shape[1], 50257)
        logits[0, -1, self.ids[min(place, len(self.ids) - 1)]] = 10.0
        return logits


@pytest.mark.parametrize(
    ("written", "n", "want"),
    [
        (" Four.<|endoftext|> more", 20, "Four."),
        ("\nFour\nlines \n<|endoftext|>", 20, "Four\nlines"),
        (" one two three", 2, "one two"),
        ("<|endoftext|>", 5, ""),
        ("### Response:\nyes<|endoftext|>", 20, "### Response:\nyes"),
    ],
)
def test_the_answer_is_what_stands_between_prompt_and_end(ch07, tokenizer, written, n, want):
    task = entry(instruction="Say <|endoftext|>é.")
    prompt = len(tokenizer.encode(ch07.format_input(task) + ch07.RESPONSE_HEADING, disallowed_special=()))
    model = Scripted(tokenizer.encode(written, allowed_special="all"), prompt)
    assert ch07.respond(task, model, tokenizer, "cpu", n, use_cache=False) == want


def test_the_model_is_asked_no_more_after_the_end(ch07, tokenizer):
    task = entry()
    prompt = len(tokenizer.encode(ch07.format_input(task) + ch07.RESPONSE_HEADING))
    model = Scripted(tokenizer.encode(" Four.<|endoftext|> more and more", allowed_special="all"), prompt)
    widths = []
    model.register_forward_hook(lambda _, args, __: widths.append(args[0].shape[1] - prompt))
    assert ch07.respond(task, model, tokenizer, "cpu", 30, use_cache=False) == "Four."
    assert widths == [0, 1, 2]  # " Four", ".", the end


def test_a_model_answers_in_eval_mode_and_keeps_its_mode(ch07, tokenizer):
    torch.manual_seed(0)
    model = ch07.GPTModel({**CFG, "drop_rate": 0.5}).train()
    assert ch07.respond(entry(), model, tokenizer, "cpu", 5) == ch07.respond(entry(), model, tokenizer, "cpu", 5)
    assert model.training


@pytest.mark.parametrize(
    ("given", "wanted", "f1"),
    [
        ("the cat ran off", "The cat sat.", 4 / 7),
        ("same", "same", 1.0),
        ("Same!", "same", 1.0),
        ("a", "b", 0.0),
        ("", "b", 0.0),
        ("", "", 1.0),
        ("yes yes yes", "yes", 0.5),
        ("ha ha now", "ha ha then", 2 / 3),
        ("12 + 3 = 15", "15", 0.5),
    ],
)
def test_f1_of_words(ch07, given, wanted, f1):
    assert ch07.token_f1(given, wanted) == pytest.approx(f1)
    assert ch07.token_f1(wanted, given) == pytest.approx(f1)


# Real and sample data -------------------------------------------------------------------------------------


def test_the_sample_can_be_read_and_no_test_task_is_in_training(ch07):
    data = ch07.read_instructions(SAMPLES / "instructions.json")
    train, test, validation = ch07.split_entries(data)
    tasks = [{ch07.format_input(e) for e in part} for part in (train, test, validation)]
    assert not tasks[0] & tasks[1] and not tasks[0] & tasks[2] and not tasks[1] & tasks[2]


def test_figures_of_the_real_entries(ch07, tokenizer):
    """Known from elsewhere: 1,100 entries, 775 without input; entry 50 has 43 tokens of task and 57 in all."""
    found = find("instruction-data.json")
    if found is None or found.is_sample:
        pytest.skip("needs COURSE_DATA with instruction-data.json")
    data = ch07.read_instructions(found.path)
    assert len(data) == 1_100 and sum(not e["input"] for e in data) == 775
    assert [len(part) for part in ch07.split_entries(data)] == [935, 110, 55]
    dataset = ch07.InstructionDataset(data, tokenizer)
    n = [len(row) for row in dataset]
    assert (min(n), max(n), sum(n)) == (40, 91, 62_025)
    assert (len(tokenizer.encode(ch07.format_input(data[50]))), n[50]) == (43, 57)
    for e, row in zip(data, dataset):
        task = tokenizer.encode(ch07.format_input(e))
        assert row[: len(task)] == task


def test_guard_of_rows_lets_good_rows_through():
    assert guards.rows_of_ids(ROWS) is None and guards.rows_of_ids(ROWS, 3) is None
