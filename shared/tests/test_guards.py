"""The guards: what they let through, and that each message names the value and what to do."""

import pandas as pd
import pytest
import torch
from torch import nn

from shared import guards
from shared.refusals import refused
from shared.texts import whole_characters


def refuses(words, guard, *args, **values):
    with pytest.raises(ValueError, match=words):
        guard(*args, **values)


def test_whole_numbers():
    guards.whole_numbers(rank=1, max_length=None, n=torch.tensor([3]).numpy()[0])
    for wrong in (0, -1, 1.0, 2.5, "3", True, float("nan")):
        refuses(rf"rank must be a whole number, 1 or more; it is {wrong!r}", guards.whole_numbers, rank=wrong)
    guards.whole_numbers(at_least=0, n=0)
    refuses("n must be a whole number, 2 or more; it is 1", guards.whole_numbers, at_least=2, n=1)


def test_positive():
    guards.positive(alpha=0.5, other=3)
    for wrong in (0, -1, float("nan"), float("inf"), "1", None, True):
        refuses("alpha must be a number above 0", guards.positive, alpha=wrong)


def test_shares():
    guards.shares(train_frac=0.7, validation_frac=0.1)
    for wrong in (0, 1, -0.1, 1.5, "0.5", float("nan")):
        refuses("train_frac must be a share between 0 and 1", guards.shares, train_frac=wrong, validation_frac=0.1)
    refuses("leave something over", guards.shares, train_frac=0.7, validation_frac=0.3)
    refuses("are 1.2 together", guards.shares, train_frac=0.7, validation_frac=0.5)


def table(labels, texts):
    return pd.DataFrame({"Label": labels, "Text": texts})


def test_labelled_texts():
    good = table(["ham", "spam", "ham"], ["a", "b", "c"])
    guards.labelled_texts(good, ("ham", "spam"))
    guards.labelled_texts(good, ("ham", "spam"), rarer="spam", max_length=3)
    check = guards.labelled_texts
    refuses(r"x.csv: there is no column 'Text'; the columns are \['Label'\]", check, good[["Label"]], ("ham",), "x.csv")
    refuses("no column 'Label'", check, good[["Text"]], ("ham",))
    refuses("there are no rows", check, good[:0], ("ham", "spam"))
    refuses(r"row 1 has the label 'eggs'; known are 'ham', 'spam' \(1 rows", check, table(["ham", "eggs"], ["a", "b"]),
            ("ham", "spam"))  # fmt: skip
    for empty in ("", "  ", None, float("nan")):
        refuses(r"row 1 has no text \(1 such rows\)", check, table(["ham", "spam"], ["a", empty]), ("ham", "spam"))
    refuses("no row has the label 'spam'", check, table(["ham"], ["a"]), ("ham", "spam"))
    refuses("spam is not the rarer class", check, table(["ham", "spam", "spam"], ["a", "b", "c"]), ("ham", "spam"),
            rarer="spam")  # fmt: skip
    refuses("max_length must be a whole number", check, good, ("ham", "spam"), max_length=0)
    unknown_number = table([0, float("nan")], ["a", "b"])
    refuses("row 1 has the label nan", check, unknown_number, (0, 1))


def test_some_text():
    guards.some_text("a")
    guards.some_text("a", 5)
    for wrong in ("", "  \n"):
        refuses("there is nothing in it to judge", guards.some_text, wrong)
    refuses("must be a str, not NoneType", guards.some_text, None)
    refuses("max_length must be", guards.some_text, "a", 0)


def test_padded_on_the_right():
    guards.padded_on_the_right(torch.tensor([[1, 0, 0], [1, 2, 3]]), 0)
    refuses("row 1 begins with padding", guards.padded_on_the_right, torch.tensor([[1, 0], [0, 2]]), 0)
    refuses("row 0 begins with padding", guards.padded_on_the_right, torch.tensor([[0, 0]]), 0)
    refuses(r"got \(0,\)", guards.padded_on_the_right, torch.tensor([]), 0)
    refuses(r"got \(2, 0\)", guards.padded_on_the_right, torch.empty(2, 0), 0)


def test_has_batches():
    guards.has_batches([1])
    refuses("the training loader has no batch", guards.has_batches, [])


def test_adapter_settings():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    guards.adapter_settings(model, 1, 1, [])
    guards.adapter_settings(model, 1, 0.5, [], targets=("0",))
    refuses("rank must be a whole number, 1 or more; it is 0", guards.adapter_settings, model, 0, 1, [])
    refuses("alpha must be a number above 0; it is 0", guards.adapter_settings, model, 1, 0, [])
    refuses("cannot be replaced inside itself", guards.adapter_settings, nn.Linear(2, 2), 1, 1, [])
    refuses("ReLU has no linear layer", guards.adapter_settings, nn.ReLU(), 1, 1, [])
    refuses("no linear layer named W; there are 0", guards.adapter_settings, model, 1, 1, [], targets=("0", "W"))
    refuses(r"pass a tuple of names, like \('0',\)", guards.adapter_settings, model, 1, 1, [], targets="0")


def test_adapter_fits():
    own = {"a": torch.zeros(2, 1), "b": torch.zeros(1, 2)}
    settings = {"base": "1234", "scale": "1.0"}
    check = guards.adapter_fits
    check(dict(own), dict(settings), own, settings, "f")
    refuses("f does not fit: the file has no b", check, {"a": own["a"]}, settings, own, settings, "f")
    refuses("the model has no c", check, own | {"c": own["a"]}, settings, own, settings, "f")
    other = own | {"a": torch.zeros(2, 3)}
    refuses(r"a is \(2, 3\) in the file and \(2, 1\) in the model", check, other, settings, own, settings, "f")
    for key in settings:
        refuses("this model has", check, own, settings | {key: "x"}, own, settings, "f")
    refuses("this model has", check, own, None, own, settings, "f")


def test_refused_prints_the_error_and_fails_without_one(capsys):
    refused(guards.whole_numbers, rank=0)
    assert capsys.readouterr().out == "ValueError: rank must be a whole number, 1 or more; it is 0\n"
    with pytest.raises(AssertionError, match="whole_numbers accepted it"):
        refused(guards.whole_numbers, rank=1)


def test_half_a_character_becomes_a_sign():
    assert whole_characters("a\ud83eb") == "a\ufffdb" and whole_characters("a🤗b") == "a🤗b"


def test_numbers_above_0_may_be_infinite():
    guards.above_0(max_norm=float("inf"))
    for value in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"max_norm must be above 0; it is {value}"):
            guards.above_0(max_norm=value)
