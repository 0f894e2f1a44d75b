"""Chapter 6: data, padding, batches of similar length, the classifier and its training; all at tiny sizes."""

import copy
import csv
import math
import random

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from shared.assets import SAMPLES, find
from shared.carry import load_chapter

CFG = {"vocab_size": 50257, "context_length": 160, "emb_dim": 16, "n_heads": 4, "n_layers": 3, "drop_rate": 0.0}
CFG |= {"qkv_bias": True}
PAD = 50256


@pytest.fixture(scope="session")
def ch06():
    """The code of chapters 2 to 6 as a module."""
    return load_chapter("ch06_classification")


@pytest.fixture
def model(ch06):
    """A tiny classifier with random weights, in eval mode."""
    torch.manual_seed(0)
    model = ch06.GPTModel(CFG)
    ch06.prepare_classifier(model)
    return model.eval()


def messages(n_ham=12, n_spam=6):
    texts = [f"ham number {i}" for i in range(n_ham)] + [f"spam number {i}" for i in range(n_spam)]
    return pd.DataFrame({"Label": ["ham"] * n_ham + ["spam"] * n_spam, "Text": texts})


def rows_of(*lengths, n_columns=None):
    """Ids (B, T) of the given lengths, filled up on the right."""
    ids = torch.full((len(lengths), n_columns or max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(0, 50_000, (length,), generator=torch.Generator().manual_seed(row))
    return ids


# Reading, balancing, splitting ---------------------------------------------------------------------------


def test_quotes_and_words_that_mean_missing_are_texts(ch06, tmp_path):
    lines = ['ham\t"open', "spam\tNA", "ham\tnull", 'ham\ta "b" c', "spam\tnan", 'ham\tclosing"']
    path = tmp_path / "messages"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = ch06.read_messages(path)
    assert ["\t".join(row) for row in table.to_numpy()] == lines


@pytest.mark.parametrize("content, words", [
    ("ham\ta\neggs\tb\n", "row 1 has the label 'eggs'"),
    ("ham\ta\nspam\t\n", "row 1 has no text"),
    ("ham\ta\nspam\n", "row 1 has no text"),
    ("ham\ta\nham\tb\n", "no row has the label 'spam'"),
    ("label\ttext\nham\ta\nspam\tb\n", "row 0 has the label 'label'"),
])  # fmt: skip
def test_a_file_that_is_no_list_of_messages_is_refused(ch06, tmp_path, content, words):
    path = tmp_path / "messages"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"messages: .*{words}"):
        ch06.read_messages(path)


def test_balancing_keeps_all_spam_and_as_much_ham_and_leaves_its_argument_alone(ch06):
    table = messages()
    before = table.copy()
    balanced = ch06.create_balanced_dataset(table)
    assert balanced["Label"].tolist() == ["ham"] * 6 + ["spam"] * 6
    assert balanced["Text"].is_unique and balanced["Text"].isin(table["Text"]).all()
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(ch06.create_balanced_dataset(table), balanced)      # the same draw each time
    with pytest.raises(ValueError, match="spam is not the rarer class"):
        ch06.create_balanced_dataset(messages(3, 4))
    with pytest.raises(ValueError, match="no row has the label 'spam'"):
        ch06.create_balanced_dataset(messages(3, 0))


@pytest.mark.parametrize("n", [1, 7, 10, 149, 1494])
def test_a_split_is_a_partition(ch06, n):
    table = pd.DataFrame({"Text": [str(i) for i in range(n)]})
    parts = ch06.random_split(table, 0.7, 0.1)
    assert sorted(pd.concat(parts)["Text"], key=int) == [str(i) for i in range(n)]
    assert [len(part) for part in parts] == [int(0.7 * n), int(0.1 * n), n - int(0.7 * n) - int(0.1 * n)]
    assert pd.concat(parts)["Text"].tolist() != table["Text"].tolist() or n < 7


@pytest.mark.parametrize("fractions", [(0, 0.1), (0.7, 0), (0.7, 0.3), (1.2, 0.1), (-0.5, 0.2), ("0.7", 0.1)])
def test_shares_that_leave_nothing_are_refused(ch06, fractions):
    with pytest.raises(ValueError, match="must be a share|leave something over"):
        ch06.random_split(messages(), *fractions)


def test_parts_are_written_and_read_back(ch06, gpt2, tmp_path):
    table = messages(60, 40)
    table.loc[0, "Text"], table.loc[70, "Text"] = "NA", 'line\nbreak, "quote"'
    parts = ch06.write_parts(table, tmp_path / "new folder")
    again = ch06.write_parts(table, tmp_path / "new folder")
    for part, second, name in zip(parts, again, ("train", "validation", "test")):
        pd.testing.assert_frame_equal(part, second)
        data = ch06.SpamDataset(tmp_path / "new folder" / f"{name}.csv", gpt2)
        assert data.data["Text"].tolist() == part["Text"].tolist() and data.labels.tolist() == part["Label"].tolist()


@pytest.mark.real_data
def test_the_real_messages(ch06, tmp_path):
    found = find("SMSSpamCollection")
    if found is None:
        pytest.skip("the messages are neither in COURSE_DATA nor in the cache")
    table = ch06.read_messages(found.path)
    assert len(table) == 5574 and table["Label"].value_counts().to_dict() == {"ham": 4827, "spam": 747}
    assert not table["Text"].str.contains("\n").any()
    train, validation, test = ch06.write_parts(table, tmp_path)
    assert [len(part) for part in (train, validation, test)] == [1045, 149, 300]
    copies = test["Text"].isin(set(train["Text"])).sum(), validation["Text"].isin(set(train["Text"])).sum()
    assert copies == (36, 13)
    default = pd.read_csv(found.path, sep="\t", header=None)
    assert len(default) == 5572


def test_the_sample_has_no_message_in_two_parts(ch06, tmp_path):
    parts = ch06.write_parts(ch06.read_messages(SAMPLES / "sms-messages.tsv"), tmp_path)
    texts = [set(part["Text"]) for part in parts]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert all(set(part["Label"]) == {0, 1} for part in parts)


# Rows of one length --------------------------------------------------------------------------------------


def csv_file(path, texts, labels=None):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Label", "Text"])
        writer.writerows(zip(labels or [i % 2 for i in range(len(texts))], texts))
    return path


def test_rows_are_filled_up_and_cut(ch06, gpt2, tmp_path):
    texts = ["one", "one two three", "a b c d e f g h", "<|endoftext|>"]
    path = csv_file(tmp_path / "x.csv", texts)
    data = ch06.SpamDataset(path, gpt2)
    encoded = [gpt2.encode(text, disallowed_special=()) for text in texts]
    assert data.max_length == max(map(len, encoded)) == data.ids.shape[1] and len(data) == 4
    for (ids, label), want, number in zip(data, encoded, range(4)):
        assert ids.tolist() == want + [PAD] * (data.max_length - len(want)) and label == number % 2
        assert ids.dtype == label.dtype == torch.int64 and ids.shape == (data.max_length,) and label.ndim == 0
    assert PAD not in sum(encoded, [])                              # the token as text is not the token
    short = ch06.SpamDataset(path, gpt2, max_length=2, pad_token_id=7)
    assert short.ids.tolist() == [(row + [7] * 2)[:2] for row in encoded] and short.max_length == 2
    assert short.lengths == [min(2, len(row)) for row in encoded]
    long = ch06.SpamDataset(path, gpt2, max_length=99)
    assert long.ids.shape == (4, 99) and torch.equal(long.ids[:, : data.max_length], data.ids)


@pytest.mark.parametrize("texts, labels, max_length, words", [
    (["a", "b"], [0, 2], None, "row 1 has the label 2"),
    (["a", "b"], [0, 0], None, "no row has the label 1"),
    (["a", " "], [0, 1], None, "row 1 has no text"),
    ([], [], None, "there are no rows"),
    (["a", "b"], [0, 1], 0, "max_length must be a whole number"),
    (["a", "b"], [0, 1], 2.5, "max_length must be a whole number"),
])  # fmt: skip
def test_tables_that_do_not_fit_are_refused(ch06, gpt2, tmp_path, texts, labels, max_length, words):
    with pytest.raises(ValueError, match=words):
        ch06.SpamDataset(csv_file(tmp_path / "x.csv", texts, labels), gpt2, max_length)


def test_a_missing_column_is_named(ch06, gpt2, tmp_path):
    (tmp_path / "x.csv").write_text("label,Text\n0,a\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x.csv: there is no column 'Label'; the columns are \['label', 'Text'\]"):
        ch06.SpamDataset(tmp_path / "x.csv", gpt2)


# The answer does not depend on padding -------------------------------------------------------------------


def test_last_real_token(ch06):
    assert ch06.last_real(rows_of(3, 1, 5)).tolist() == [2, 0, 4]
    assert ch06.last_real(torch.tensor([[5, 0, 0]]), 0).tolist() == [0]
    for bad in (rows_of(3, 0), torch.tensor([[PAD, 5, 6]])):
        with pytest.raises(ValueError, match="begins with padding"):
            ch06.last_real(bad)


@pytest.mark.parametrize("n_pads", [0, 1, 50, 100])
def test_padding_and_company_change_no_answer(ch06, model, n_pads):
    """The same message with padding behind it, alone and in a batch with others, has the same scores."""
    alone = ch06.class_logits(model, rows_of(7))
    padded = rows_of(7, n_columns=7 + n_pads)
    torch.testing.assert_close(ch06.class_logits(model, padded), alone, atol=1e-5, rtol=0)
    batch = rows_of(7, 20, 3, n_columns=max(20, 7 + n_pads))
    torch.testing.assert_close(ch06.class_logits(model, batch)[:1], alone, atol=1e-5, rtol=0)
    if n_pads:
        assert (model(padded)[:, -1] - alone).abs().max() > 1e-3       # the last column fails the same test


def test_the_scores_are_those_at_the_last_real_position(ch06, model):
    ids = rows_of(4, 9, 1)
    every = model(ids)
    for row, last in enumerate((3, 8, 0)):
        torch.testing.assert_close(ch06.class_logits(model, ids)[row], every[row, last])


@pytest.mark.parametrize("fused", [True, False])
def test_both_forms_of_attention_answer_the_same_with_padding(ch06, model, fused):
    """Right padding is never seen by a real token, in the fused kernel and written out; no row is without a key."""
    if not fused:
        for block in model.trf_blocks:
            block.att.context_vectors = ch06.MultiHeadAttention.context_vectors.__get__(block.att)
    logits = ch06.class_logits(model, rows_of(2, 11, n_columns=40))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[:1], ch06.class_logits(model, rows_of(2)), atol=1e-5, rtol=0)


def test_a_query_without_any_key_is_why_padding_is_on_the_right():
    """With everything hidden, the fused kernel gives zeros and softmax written out NaN: neither means anything."""
    q = k = v = torch.randn(1, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[False, False], [True, True]])                # the first query may look at nothing
    fused = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    written_out = (q @ k.transpose(-2, -1) / 2).masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v
    assert not fused[0, 0, 0].any() and written_out[0, 0, 0].isnan().all()
    torch.testing.assert_close(fused[0, 0, 1], written_out[0, 0, 1])


# What learns ---------------------------------------------------------------------------------------------


def learning(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_head_last_block_and_final_norm_learn(ch06, model):
    names = learning(model)
    assert {"out_head.weight", "out_head.bias", "final_norm.scale", "final_norm.shift"} <= names
    assert all(name.startswith(("out_head", "final_norm", "trf_blocks.2.")) for name in names)
    assert sum(name.startswith("trf_blocks.2.") for name in names) == len(list(model.trf_blocks[2].parameters()))
    n_all, n_learning = ch06.count_parameters(model)
    assert n_all == sum(p.numel() for p in model.parameters())
    assert n_learning == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_preparing_twice_is_preparing_once(ch06, model):
    before = learning(model)
    model.requires_grad_(True)
    torch.manual_seed(5)
    ch06.prepare_classifier(model)
    first = model.out_head.weight.clone()
    torch.manual_seed(5)
    ch06.prepare_classifier(model)
    assert learning(model) == before and torch.equal(model.out_head.weight, first)
    ch06.prepare_classifier(model, num_classes=5)
    assert ch06.class_logits(model, rows_of(3, 4)).shape == (2, 5)
    for wrong in (1, 0, 2.0):
        with pytest.raises(ValueError, match="num_classes must be a whole number, 2 or more"):
            ch06.prepare_classifier(model, wrong)


def test_one_step_moves_only_what_learns(ch06, model):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ch06.calc_class_loss_batch(rows_of(3, 5), torch.tensor([0, 1]), model, "cpu").backward()
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved and moved <= learning(model) and "out_head.weight" in moved


def test_a_tied_model_is_untied_by_its_new_head(ch06):
    model = ch06.GPTModel({**CFG, "tie_weights": True})
    embedding = model.tok_emb.weight.clone()
    ch06.prepare_classifier(model)
    assert model.out_head.weight.shape == (2, 16) and torch.equal(model.tok_emb.weight, embedding)


# Loss, accuracy, batches ---------------------------------------------------------------------------------


def fixed(scores):
    """A logits_fn that gives the scores of ids[:, 0]."""
    return lambda model, ids: torch.tensor(scores)[ids[:, 0]]


def test_loss_and_accuracy_by_hand(ch06, model):
    scores, labels = [[0.4, 1.5], [2.0, 0.0], [0.0, 1.0]], torch.tensor([1, 0, 0])
    loader = [(torch.tensor([[0, 9], [1, 9]]), labels[:2]), (torch.tensor([[2, 9]]), labels[2:])]
    loss = ch06.calc_class_loss_batch(*loader[0], model, "cpu", fixed(scores))
    want = (math.log(1 + math.exp(-1.1)) + math.log(1 + math.exp(-2))) / 2
    assert loss.item() == pytest.approx(want, abs=1e-6)
    assert ch06.calc_accuracy_loader(loader, model, "cpu", logits_fn=fixed(scores)) == pytest.approx(2 / 3)
    assert ch06.calc_accuracy_loader(loader, model, "cpu", 1, fixed(scores)) == 1.0
    assert ch06.calc_accuracy_loader(loader, model, "cpu", 99, fixed(scores)) == pytest.approx(2 / 3)
    logits, found = ch06.predict_loader(loader, model, "cpu", logits_fn=fixed(scores))
    assert torch.equal(logits, torch.tensor(scores)) and torch.equal(found, labels)


def test_no_batches_are_nan_and_zero_batches_an_error(ch06, model):
    assert math.isnan(ch06.calc_accuracy_loader([], model, "cpu"))
    with pytest.raises(ValueError, match="num_batches must be a whole number"):
        ch06.calc_accuracy_loader([], model, "cpu", 0)


@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_the_loss_of_a_loader_is_the_same_for_every_batch_size(ch06, model, size):
    ids, labels = rows_of(*range(1, 11)), torch.tensor([0, 1] * 5)
    loader = DataLoader(list(zip(ids, labels)), batch_size=size, collate_fn=ch06.cut_padding)
    whole = ch06.calc_class_loss_batch(ids, labels, model, "cpu").item()
    with ch06.eval_mode(model):
        got = ch06.calc_loss_loader(loader, model, "cpu", loss_fn=ch06.calc_class_loss_batch)
    assert got == pytest.approx(whole, abs=1e-5)


def test_measuring_leaves_mode_and_gradients_alone(ch06):
    torch.manual_seed(0)
    model = ch06.GPTModel({**CFG, "drop_rate": 0.5})
    ch06.prepare_classifier(model)
    model.train()
    loader = [(rows_of(3, 5), torch.tensor([0, 1]))]
    first, second = (ch06.predict_loader(loader, model, "cpu")[0] for _ in range(2))
    assert torch.equal(first, second) and model.training and not first.requires_grad


def test_padding_is_cut_to_the_longest_row_of_the_batch(ch06):
    ids = rows_of(3, 6, 2, n_columns=30)
    cut, labels = ch06.cut_padding([(row, torch.tensor(1)) for row in ids])
    assert torch.equal(cut, ids[:, :6]) and labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize("n, size", [(16, 4), (19, 4), (5, 5), (1045, 8)])
def test_batches_of_similar_length(ch06, n, size):
    lengths = random.Random(n).choices(range(1, 61), k=n)
    assert len(set(lengths)) > 2
    sampler = ch06.SimilarLengthBatches(lengths, size)
    torch.manual_seed(1)
    first, second = list(sampler), list(sampler)
    for batches in (first, second):
        rows = [row for batch in batches for row in batch]
        assert len(batches) == len(sampler) == n // size and all(len(batch) == size for batch in batches)
        assert len(set(rows)) == len(rows) and set(rows) <= set(range(n))      # no row twice
        # Sorted by length, the batches do not overlap: they are cut from one sorted list.
        bounds = sorted((min(lengths[row] for row in batch), max(lengths[row] for row in batch)) for batch in batches)
        assert all(a[1] <= b[0] for a, b in zip(bounds, bounds[1:]))
    torch.manual_seed(1)
    assert list(sampler) == first and (first != second or n == size)


def test_rows_are_left_out_by_chance_and_not_by_length(ch06):
    """Of 9 rows one is left out each time; over many epochs every row, the longest too, is left out sometimes."""
    sampler = ch06.SimilarLengthBatches(list(range(1, 10)), 4)
    torch.manual_seed(0)
    left_out = [set(range(9)) - {row for batch in sampler for row in batch} for _ in range(200)]
    assert set().union(*left_out) == set(range(9)) and all(len(rows) == 1 for rows in left_out)


def test_the_order_of_the_batches_is_random_and_not_by_length(ch06):
    sampler = ch06.SimilarLengthBatches(list(range(40)), 4)
    torch.manual_seed(0)
    firsts = [next(iter(sampler))[0] // 4 for _ in range(200)]
    assert set(firsts) == set(range(10))


def test_fewer_rows_than_a_batch_give_none(ch06):
    assert len(ch06.SimilarLengthBatches([3, 4], 5)) == 0 and list(ch06.SimilarLengthBatches([3, 4], 5)) == []
    with pytest.raises(ValueError, match="batch_size must be"):
        ch06.SimilarLengthBatches([1], 0)


def test_similar_lengths_save_padding_and_change_no_loss(ch06, model):
    lengths = random.Random(3).choices(range(1, 51), k=64)
    ids, labels = rows_of(*lengths, n_columns=50), torch.tensor([0, 1] * 32)
    data = list(zip(ids, labels))
    similar = DataLoader(data, batch_sampler=ch06.SimilarLengthBatches(lengths, 8), collate_fn=ch06.cut_padding)
    tokens = sum(batch.numel() for batch, _ in similar)
    assert tokens < 1.3 * sum(lengths) and sum((batch != PAD).sum() for batch, _ in similar) == sum(lengths)
    with ch06.eval_mode(model):
        losses = [ch06.calc_loss_loader(loader, model, "cpu", loss_fn=ch06.calc_class_loss_batch)
                  for loader in (similar, DataLoader(data, 8))]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


# Training and use ----------------------------------------------------------------------------------------


def two_kinds(n=32):
    """A loader of rows whose first token tells the class."""
    ids = rows_of(*[2 + i % 5 for i in range(n)], n_columns=6)
    labels = torch.tensor([i % 2 for i in range(n)])
    ids[:, 0] = labels * 100 + 1
    return DataLoader(list(zip(ids, labels)), batch_size=8)


def test_training_learns_counts_and_measures_where_it_says(ch06, model):
    loader = two_kinds()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    train_losses, val_losses, train_accs, val_accs, seen = ch06.train_classifier_simple(
        model, loader, loader, optimizer, "cpu", num_epochs=6, eval_freq=5, eval_iter=None)  # fmt: skip
    assert seen == 6 * 32 and len(train_losses) == len(val_losses) == 5 and len(train_accs) == len(val_accs) == 6
    assert train_losses == val_losses and train_accs == val_accs        # the same loader twice
    assert val_accs[-1] == 1.0 and val_losses[-1] < 0.3 < val_losses[0]
    assert train_accs[-1] == ch06.calc_accuracy_loader(loader, model, "cpu")


def test_the_first_loss_is_measured_after_the_first_step(ch06, model):
    loader = two_kinds(8)                                               # one step an epoch
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    (loss,), *_ = ch06.train_classifier_simple(model, loader, loader, optimizer, "cpu", 1, eval_freq=7, eval_iter=1)
    with ch06.eval_mode(model):
        now = ch06.calc_loss_loader(loader, model, "cpu", loss_fn=ch06.calc_class_loss_batch)
    assert loss == pytest.approx(now, abs=1e-6)


def test_another_way_to_read_the_scores_is_used_everywhere(ch06, model):
    calls = []

    def logits_fn(model, ids):
        calls.append(model.training)
        return ch06.class_logits(model, ids)

    loader = two_kinds(8)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ch06.train_classifier_simple(model, loader, loader, optimizer, "cpu", 1, 1, 1, logits_fn)
    assert calls == [True, False, False, False, False]      # a step, two losses, two accuracies


def test_without_batches_training_says_why(ch06, model):
    with pytest.raises(ValueError, match="the training loader has no batch"):
        ch06.train_classifier_simple(model, [], [], None, "cpu", 1, 1, 1)


def test_curves_are_drawn_where_the_values_were_measured(ch06):
    figure = ch06.plot_values([1, 2, 3], [8, 16, 24], [0.5, 0.6, 0.7], [0.4, 0.5, 0.6], "accuracy")
    axes, above = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3]] * 2
    assert above.get_xlim()[1] / axes.get_xlim()[1] == pytest.approx(8)
    assert above.get_xlabel() == "Examples seen" and axes.get_ylabel() == "Accuracy"


def test_a_verdict_for_any_text(ch06, model, gpt2):
    with torch.no_grad():
        model.out_head.bias[:] = torch.tensor([0.0, 50.0])
    for text in ("hello", "x" * 5_000, "<|endoftext|>", "🤗"):
        assert ch06.classify_review(text, model, gpt2, "cpu") == "spam"
        assert ch06.classify_review(text, model, gpt2, "cpu", max_length=3) == "spam"
        assert ch06.classify_review(text, model, gpt2, "cpu", max_length=10_000) == "spam"
    with torch.no_grad():
        model.out_head.bias[:] = torch.tensor([50.0, 0.0])
    assert ch06.classify_review("hello", model, gpt2, "cpu") == "not spam"
    for text, max_length, words in (("", None, "nothing in it"), (" ", 5, "nothing in it"), ("a", 0, "max_length"),
                                    (None, None, "must be a str")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ch06.classify_review(text, model, gpt2, "cpu", max_length)


def test_a_text_is_cut_to_max_length_and_to_the_context(ch06, model, gpt2):
    text = " ".join(["word"] * 400)
    ids = gpt2.encode(text)
    for max_length, kept in ((None, 160), (5, 5), (999, 160)):
        want = ch06.class_logits(model, torch.tensor([ids[:kept]])).softmax(dim=-1)[0, 1].item()
        assert ch06.spam_probability(text, model, gpt2, "cpu", max_length) == pytest.approx(want, abs=1e-6)


def test_scores_of_several_texts_are_those_of_each_alone(ch06, model, gpt2):
    texts = ["a", "a much longer text than the first one", "x " * 300]
    together = ch06.spam_score(texts, model, gpt2, "cpu")
    for score, text in zip(together.tolist(), texts):
        p = ch06.spam_probability(text, model, gpt2, "cpu")
        assert score == pytest.approx(math.log(p / (1 - p)), abs=1e-4)


def test_occlusion_is_the_fall_of_the_score(ch06, model, gpt2):
    parts = ch06.occlusion("one two  three", model, gpt2, "cpu")
    whole, without = ch06.spam_score(["one two three", "one three"], model, gpt2, "cpu").tolist()
    assert [word for word, _ in parts] == ["one", "two", "three"]
    assert parts[1][1] == pytest.approx(whole - without, abs=1e-5)
    ((word, change),) = ch06.occlusion("one", model, gpt2, "cpu")
    assert word == "one" and change == pytest.approx(ch06.spam_score(["one"], model, gpt2, "cpu").item(), abs=1e-5)


# Intervals, precision, recall ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_right, n", [(0, 10), (10, 10), (285, 300), (1, 2), (150, 300)])
def test_the_interval_holds_the_shares_for_which_the_result_is_not_unusual(ch06, n_right, n):
    """Wilson's definition: at its ends the measured share lies 1.96 spreads away."""
    low, high = ch06.accuracy_interval(n_right, n)
    assert 0 <= low <= n_right / n <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(n_right / n - end) / math.sqrt(end * (1 - end) / n) == pytest.approx(1.96, abs=1e-6)
    with pytest.raises(ValueError, match="n must be"):
        ch06.accuracy_interval(0, 0)


def test_accuracy_in_words(ch06):
    right = pd.Series([True] * 8 + [False] * 2).to_numpy()
    copies = pd.Series([True] * 5 + [False] * 5).to_numpy()
    words = ch06.describe_accuracy(right, copies)
    assert words.startswith("all 0.800 (") and ", clean 0.600 (" in words


def test_precision_and_recall_of_hand_made_cases(ch06):
    t = torch.tensor
    assert ch06.precision_and_recall(t([True, True, False, False]), t([True, False, True, False])) == (0.5, 0.5)
    assert ch06.precision_and_recall(t([True, True]), t([True, True])) == (1.0, 1.0)
    precision, recall = ch06.precision_and_recall(t([False, False]), t([True, False]))
    assert math.isnan(precision) and recall == 0.0
    precision, recall = ch06.precision_and_recall(t([True, False]), t([False, False]))
    assert precision == 0.0 and math.isnan(recall)


def test_each_step_follows_its_own_batch_only(ch06, model):
    """Two steps of plain gradient descent, written out: what the first batch left behind must not move the second."""
    loader, by_hand = two_kinds(16), copy.deepcopy(model)
    batches = list(loader)
    learning_of = [[p for p in each.parameters() if p.requires_grad] for each in (model, by_hand)]
    optimizer = torch.optim.SGD(learning_of[0], lr=0.1)
    ch06.train_classifier_simple(model, loader, loader, optimizer, "cpu", 1, eval_freq=0, eval_iter=1)
    for ids, labels in batches:
        gradients = torch.autograd.grad(ch06.calc_class_loss_batch(ids, labels, by_hand, "cpu"), learning_of[1])
        with torch.no_grad():
            for parameter, gradient in zip(learning_of[1], gradients):
                parameter -= 0.1 * gradient
    for got, want in zip(*learning_of):
        torch.testing.assert_close(got, want)
