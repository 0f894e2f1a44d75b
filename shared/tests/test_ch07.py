"""Chapter 7: entries, forms, batches, answers and their scores; all at tiny sizes."""

import copy
import json
import math

import pytest
import tiktoken
import torch
from torch.nn.functional import cross_entropy

from shared import guards, ollama
from shared.assets import SAMPLES, find, gpt2_vocabulary
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
        self.context_length = 4_096

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
        ("the cat ran off", "The cat sat.", 0.4),
        ("same", "same", 1.0),
        ("Same!", "same", 1.0),
        ("An apple", "the apple", 1.0),
        ("two  words", "two words", 1.0),
        ("a", "b", 0.0),
        ("", "b", 0.0),
        ("", "", 1.0),
        ("yes yes yes", "yes", 0.5),
        ("ha ha now", "ha ha then", 2 / 3),
        ("12 + 3 = 15", "15", 0.5),
        ("It is not Paris.", "It is Paris.", 6 / 7),
    ],
)
def test_f1_of_words(ch07, given, wanted, f1):
    assert ch07.token_f1(given, wanted) == pytest.approx(f1)
    assert ch07.token_f1(wanted, given) == pytest.approx(f1)


# Answers of many, together --------------------------------------------------------------------------------


def small_model(ch07, **changes):
    """In double precision, so that rounding can't decide between two tokens."""
    torch.manual_seed(0)
    cfg = {**CFG, "vocab_size": 97, "context_length": 24, "emb_dim": 16, "n_layers": 2, "drop_rate": 0.3}
    model = ch07.GPTModel({**cfg, **changes}).double()
    for block in model.trf_blocks:  # as it comes, so small a model hardly looks at other tokens
        for layer in (block.att.W_query, block.att.W_key, block.att.W_value, block.att.out_proj):
            layer.weight.data *= 4
    return model


PROMPTS = [[7, 5, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9], [11], list(range(20)), list(range(30, 54)), list(range(60, 90)),
           [7, 5, 3]]  # fmt: skip
SAMPLINGS = [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 9}, {"temperature": 1.3, "top_p": 0.8},
             {"temperature": 1.0, "top_k": 20, "top_p": 0.5}]  # fmt: skip


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("eos_id", [None, 41])
def test_each_row_gets_the_tokens_that_it_gets_alone(ch07, sampling, eos_id):
    """Prompts of 1 to 30 tokens in a context of 24, so that some grow beyond it while others are still short."""
    model = small_model(ch07).train()
    seeds = range(50, 57)
    together = ch07.generate_batch(model, PROMPTS, 15, 24, eos_id=eos_id, seeds=seeds, pad_token_id=0, **sampling)
    for seed, prompt, new in zip(seeds, PROMPTS, together):
        torch.manual_seed(seed)
        alone = ch07.generate(model, torch.tensor([prompt]), 15, 24, eos_id=eos_id, **sampling)
        assert alone[0, len(prompt) :].tolist() == new
    assert model.training
    if not sampling:
        assert together[0] == together[6]


def test_rows_end_one_by_one(ch07):
    """With the token that a row writes at its fifth place as the end, this row has four, and the others go on."""
    model = small_model(ch07)
    free = ch07.generate_batch(model, PROMPTS, 12, 24, pad_token_id=0)
    end = free[1][4]
    ended = ch07.generate_batch(model, PROMPTS, 12, 24, eos_id=end, pad_token_id=0)
    for whole, part in zip(free, ended):
        assert part == (whole[: whole.index(end)] if end in whole else whole)
    assert len({len(part) for part in ended}) > 1


@pytest.mark.parametrize("row", range(4))
def test_rows_that_go_on_keep_their_cache_and_their_stream(ch07, row):
    """Any of the rows may be the first to end, while all of them draw, and all stay within the context."""
    prompts = [*PROMPTS[:3], PROMPTS[6]]
    model, drawn = small_model(ch07), {"temperature": 1.0, "seeds": range(4), "pad_token_id": 0}
    free = ch07.generate_batch(model, prompts, 12, 24, **drawn)
    end = free[row][2]
    for whole, part in zip(free, ch07.generate_batch(model, prompts, 12, 24, eos_id=end, **drawn)):
        assert part == (whole[: whole.index(end)] if end in whole else whole)


def test_what_has_ended_is_read_no_more(ch07, monkeypatch):
    model, sizes = small_model(ch07), []
    read = ch07.read_left_padded

    def counted(model, ids, cache, n_padding):
        sizes.append(len(ids))
        return read(model, ids, cache, n_padding)

    monkeypatch.setitem(ch07.generate_batch.__globals__, "read_left_padded", counted)
    end = ch07.generate_batch(model, PROMPTS, 12, 24, pad_token_id=0)[1][4]
    sizes.clear()
    answers = ch07.generate_batch(model, PROMPTS, 12, 24, eos_id=end, pad_token_id=0)
    assert sizes == [sum(len(answer) >= step for answer in answers) for step in range(len(sizes))]


def test_the_filling_is_not_read(ch07):
    """Whatever stands in the filling, logits stay the same: equal to those of the row alone."""
    model = small_model(ch07).eval()
    for filling in (0, 55):
        ids, n_padding = ch07.pad_left(PROMPTS[:3], filling)
        logits = ch07.read_left_padded(model, ids, ch07.KeyValueCache(model, 3, 12), n_padding)
        with torch.no_grad():
            alone = torch.stack([model(torch.tensor([prompt]))[0, -1] for prompt in PROMPTS[:3]])
        torch.testing.assert_close(logits, alone)


def test_reading_in_pieces(ch07):
    model = small_model(ch07).eval()
    ids, n_padding = ch07.pad_left(PROMPTS[:4], 0)
    whole = ch07.read_left_padded(model, ids, ch07.KeyValueCache(model, 4, 20), n_padding)
    cache = ch07.KeyValueCache(model, 4, 20)
    for start, end in ((0, 3), (3, 4), (4, 20)):
        logits = ch07.read_left_padded(model, ids[:, start:end], cache, n_padding)
    torch.testing.assert_close(logits, whole)


def test_a_row_without_visible_key():
    """PyTorch 2.13: the fused kernel gives 0, the written-out form NaN, which a weight of 0 does not stop."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 3, 4)
    visible = torch.tensor([[False, False, False], [False, True, False], [False, True, True]])
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    weights = torch.softmax((q @ k.mT / 2).masked_fill(~visible, -torch.inf), dim=-1)
    written_out = weights @ v
    assert (fused[:, :, 0] == 0).all() and written_out[:, :, 0].isnan().all()
    torch.testing.assert_close(fused[:, :, 1:], written_out[:, :, 1:])
    assert (weights.nan_to_num() @ written_out)[:, :, 1:].isnan().all()


@pytest.mark.parametrize(("n_padding", "start", "end"), [([0, 2, 3], 0, 4), ([1, 0, 2], 3, 5), ([0], 2, 3)])
def test_visible_keys_by_a_loop(ch07, n_padding, start, end):
    got = ch07.visible_keys(torch.tensor(n_padding), start, end)
    want = [[[[key == query or (n <= key < query) for key in range(end)] for query in range(start, end)]]
            for n in n_padding]  # fmt: skip
    assert got.tolist() == want and got.any(dim=-1).all()


def test_filling_on_the_left(ch07):
    before = [list(prompt) for prompt in PROMPTS]
    ids, n_padding = ch07.pad_left(PROMPTS[:3], 99)
    assert ids.tolist() == [[99] * 6 + [7, 5, 3], PROMPTS[1], [99] * 8 + [11]] and n_padding.tolist() == [6, 0, 8]
    assert before == PROMPTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "no rows"),
        ({"prompts": [[1], []]}, "row 1 of the batch has no ids"),
        ({"max_new_tokens": -1}, "max_new_tokens must"),
        ({"context_size": 0}, "context_size must"),
        ({"context_size": 25}, "the context length is 24"),
        ({"seeds": [1]}, "1 seeds for 2 prompts"),
        ({"temperature": -1.0}, "temperature must"),
        ({"top_k": 0, "temperature": 1.0}, "top_k must"),
    ],
)
def test_bad_requests_are_refused(ch07, changes, message):
    request = {"prompts": [[1] * 24, [2]], "max_new_tokens": 5, "context_size": 24, "pad_token_id": 0, **changes}
    with pytest.raises(ValueError, match=message):
        ch07.generate_batch(small_model(ch07), **request)


def test_nothing_to_write(ch07):
    assert ch07.generate_batch(small_model(ch07), [[1], [2, 3]], 0, 24, pad_token_id=0) == [[], []]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "top_k": 30}])
def test_answers_do_not_depend_on_the_batch(ch07, tokenizer, batch_size, sampling):
    torch.manual_seed(0)
    model = ch07.GPTModel(CFG).double()
    entries = [entry(), entry(given=""), entry(instruction="Say it again, and again."), entry()]
    answers = ch07.answer_ids(entries, model, tokenizer, 6, batch_size, seed=3, **sampling)
    for place, (each, ids) in enumerate(zip(entries, answers)):
        torch.manual_seed(3 + place)
        assert tokenizer.decode(ids).strip() == ch07.respond(each, model, tokenizer, "cpu", 6, **sampling)


# Tasks that leave no room ---------------------------------------------------------------------------------


def test_a_task_that_fills_its_row_is_named(ch07, tokenizer):
    data = [entry(), entry(instruction="Add " * 50)]
    assert len(ch07.InstructionDataset(data, tokenizer, max_length=100)) == 2
    with pytest.raises(ValueError, match=r"task of entry 1 has \d+ tokens, which leave no room for an answer in 60"):
        ch07.InstructionDataset(data, tokenizer, max_length=60)


def test_a_row_is_accepted_as_soon_as_one_token_of_the_answer_counts(ch07, tokenizer):
    """The target at the last position of the task is the answer's first token."""
    length = len(ch07.prompt_ids(entry(), tokenizer))
    row = ch07.InstructionDataset([entry()], tokenizer, max_length=length)[0]
    _, targets = ch07.custom_collate_fn([row], allowed_max_length=length)
    assert targets[0, -1].item() == row[length]
    with pytest.raises(ValueError, match="task of entry 0"):
        ch07.InstructionDataset([entry()], tokenizer, max_length=length - 1)


# Only answers count ---------------------------------------------------------------------------------------


def test_rows_of_prompt_and_answer(ch07):
    prompts, answers = [[1, 2, 3], [4]], [[7, 8], [9]]
    inputs, targets = ch07.answer_batch(prompts, answers)
    assert inputs.tolist() == [[1, 2, 3, 7, 8], [4, 9, EOS, EOS, EOS]]
    assert targets.tolist() == [[-100, -100, 7, 8, EOS], [9, EOS, -100, -100, -100]]
    assert (prompts, answers) == ([[1, 2, 3], [4]], [[7, 8], [9]])


def test_log_probability_of_an_answer_by_a_loop(ch07):
    torch.manual_seed(0)
    model = ch07.GPTModel(CFG).double().eval()
    prompts, answers = [[1, 2, 3], [4], [5, 6]], [[7, 8], [9], []]
    want = []
    for prompt, answer in zip(prompts, answers):
        row, total = prompt + answer + [EOS], 0.0
        for place in range(len(prompt), len(row)):
            total += torch.log_softmax(model(torch.tensor([row[:place]]))[0, -1], dim=-1)[row[place]]
        want.append(total)
    got = ch07.answer_log_probs(model, *ch07.answer_batch(prompts, answers))
    torch.testing.assert_close(got.double(), torch.stack(want), rtol=1e-5, atol=1e-4)


def test_losses_only_where_something_counts(ch07):
    torch.manual_seed(0)
    model = ch07.GPTModel(CFG).eval()
    inputs, targets = ch07.answer_batch([[1, 2, 3], [4]], [[7, 8], [9]])
    everywhere = cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(ch07.answer_losses(model, inputs, targets), everywhere[targets.flatten() != -100])


# Preferences ----------------------------------------------------------------------------------------------


def test_dpo_loss_is_its_formula(ch07):
    generator = torch.Generator().manual_seed(0)
    four = [3 * torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(4)]
    for beta in (0.05, 0.5, 2.0):
        want = sum(math.log(1 + math.exp(-beta * (a - c - b + d))) for a, b, c, d in zip(*four)) / 5
        assert ch07.dpo_loss(*four, beta).item() == pytest.approx(want)


def test_dpo_loss_at_the_ends(ch07):
    """At the start ln 2; without overflow for margins of thousands; and no loss is a negative number."""
    at = torch.tensor
    zero = at([0.0])
    assert ch07.dpo_loss(zero, zero, zero, zero, 0.1).item() == pytest.approx(math.log(2))
    assert ch07.dpo_loss(at([5000.0]), zero, zero, zero, 1.0).item() == 0.0
    assert ch07.dpo_loss(at([-5000.0]), zero, zero, zero, 1.0).item() == 5000.0
    for beta in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="beta must be a number above 0"):
            ch07.dpo_loss(zero, zero, zero, zero, beta)


def test_a_step_raises_the_margin_and_leaves_the_reference(ch07):
    torch.manual_seed(0)
    reference = ch07.GPTModel(CFG).eval()
    policy = copy.deepcopy(reference)
    before = copy.deepcopy(reference.state_dict())
    chosen, rejected = (ch07.answer_batch([[1, 2], [3]], answers) for answers in ([[5, 6], [7]], [[8], [9, 10]]))
    with torch.no_grad():
        fixed = [ch07.answer_log_probs(reference, *side) for side in (chosen, rejected)]
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = ch07.dpo_loss(*(ch07.answer_log_probs(policy, *side) for side in (chosen, rejected)), *fixed, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses == sorted(losses, reverse=True)
    assert all(parameter.grad is None for parameter in reference.parameters())
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())


def test_dpo_loss_is_that_of_trl(ch07, tmp_path):
    """The loss that trl's trainer computes for two small GPT-2s, from the log-probabilities that ours take of them."""
    from datasets import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, set_seed
    from trl import DPOConfig, DPOTrainer

    files = gpt2_vocabulary()
    words = GPT2TokenizerFast(vocab=str(files[0]), merges=str(files[1]), eos_token="<|endoftext|>",
                              pad_token="<|endoftext|>")  # fmt: skip
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=32, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    models = []
    for seed in (0, 1):
        set_seed(seed)
        models.append(GPT2LMHeadModel(config).eval())
    texts = {"prompt": ["Say it:", "And"], "chosen": [" yes, well", " so"], "rejected": [" no", " on and on"]}
    beta = 0.3
    settings = DPOConfig(output_dir=str(tmp_path), beta=beta, report_to=[], use_cpu=True, bf16=False, fp16=False,
                         per_device_train_batch_size=2, disable_dropout=True, max_length=None)  # fmt: skip
    trainer = DPOTrainer(models[0], models[1], args=settings, train_dataset=Dataset.from_dict(texts),
                         processing_class=words)  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, batch).item()

    class Ours(torch.nn.Module):
        """A model of transformers with the two parts that answer_losses asks for."""

        def __init__(self, model):
            super().__init__()
            self.features, self.out_head = lambda ids: model.transformer(ids).last_hidden_state, model.lm_head

    ids = {name: [words(text)["input_ids"] for text in column] for name, column in texts.items()}
    log_p = []
    with torch.no_grad():
        for model in models:
            for side in ("chosen", "rejected"):
                log_p.append(ch07.answer_log_probs(Ours(model), *ch07.answer_batch(ids["prompt"], ids[side])))
    assert ch07.dpo_loss(*log_p, beta).item() == pytest.approx(theirs, rel=1e-4)


# A model as judge -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "score"),
    [("85", 85), (" 0\n", 0), ("100.", 100), ("7/100", 7), ("85 / 100", 85), ("101", None), ("-5", None), ("", None),
     ("Score: 85", None), ("8 out of 10", None), ("85 points", None), ("8.5", None), ("eighty", None), ("1000", None),
     ("85/10", None)],
)  # fmt: skip
def test_a_score_is_an_answer_that_is_a_number(ch07, reply, score):
    assert ch07.parse_score(reply) == score


def judge_of(*replies):
    """A stand-in for query_model that gives these replies, and raises those that are exceptions."""
    left, asked = list(replies), []

    def query(prompt, model):
        asked.append((prompt, model))
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    query.asked = asked
    return query


def with_answers(n):
    return [{**entry(output=str(i)), "model_response": f"answer {i}"} for i in range(n)]


def test_scores_and_what_was_none(ch07, capsys):
    query = judge_of("85", "about 50", "100", ollama.ServerSilent("slow"), "0")
    assert ch07.generate_model_scores(with_answers(5), "model_response", "phi3", query) == [85, 100, 0]
    assert "3 of 5 answers scored; 1 replies were no number, 1 did not come" in capsys.readouterr().out
    prompt, model = query.asked[0]
    assert model == "phi3" and ch07.format_input(entry()) in prompt and "answer 0" in prompt
    assert "from 0" in prompt and "whole number only" in prompt


def test_a_server_that_is_gone_ends_the_scoring(ch07, capsys):
    query = judge_of("85", ollama.ServerGone("no Ollama server at X; start it with `ollama serve`"))
    assert ch07.generate_model_scores(with_answers(4), "model_response", query=query) == [85]
    out = capsys.readouterr().out
    assert len(query.asked) == 2 and "stopped: no Ollama server at X" in out and "1 of 4 answers scored" in out


def test_three_silences_in_a_row_end_the_scoring(ch07, capsys):
    silent = ollama.ServerSilent("no answer within 120 seconds")
    query = judge_of(silent, silent, "85", silent, silent, silent, "90")
    assert ch07.generate_model_scores(with_answers(7), "model_response", query=query) == [85]
    assert len(query.asked) == 6 and "stopped: no answer within 120 seconds" in capsys.readouterr().out


def test_entries_without_an_answer_are_named(ch07):
    with pytest.raises(ValueError, match="entry 1 has no text under 'model_response'"):
        ch07.generate_model_scores([*with_answers(1), entry()], "model_response", query=judge_of("1", "2"))


def test_a_question_is_sent_so_that_its_answer_can_be_repeated(ch07, monkeypatch):
    sent = {}
    monkeypatch.setattr(ollama, "chat", lambda request, *rest: sent.update(request=request, rest=rest) or "yes")
    assert ch07.query_model("Is it?", "phi3", "http://x:1", timeout=9, retries=0) == "yes"
    assert sent["request"]["messages"] == [{"role": "user", "content": "Is it?"}]
    assert sent["rest"] == ("http://x:1", 9, 0)
    assert sent["request"]["model"] == "phi3" and sent["request"]["stream"] is False
    assert sent["request"]["options"]["temperature"] == 0 and "seed" in sent["request"]["options"]


def test_pairs_are_shown_in_both_orders(ch07):
    shown = []
    entries = [{**entry(), "x": f"x{i}", "y": f"y{i}"} for i in range(2)]

    def choose(each, a, b):
        shown.append((a, b))
        return "A" if a.startswith("x") else "B"

    assert ch07.judge_in_both_orders(entries, "x", "y", choose) == (["A", "A"], ["B", "B"])
    assert shown == [("x0", "y0"), ("x1", "y1"), ("y0", "x0"), ("y1", "x1")]


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
