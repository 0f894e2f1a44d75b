"""Checks of the sample data in shared/samples (standard library only)."""

import csv
import json
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from shared.samples import make_instructions

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SMS = SAMPLES / "sms-messages.tsv"
INSTRUCTIONS = SAMPLES / "instructions.json"


def normalise(text):
    """Lower case, letters only, single spaces."""
    return " ".join(re.sub(r"[\W\d_]+", " ", text.lower()).split())


def read_sms():
    with open(SMS, encoding="utf-8", newline="") as f:
        return [tuple(row) for row in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]


def read_instructions():
    return json.loads(INSTRUCTIONS.read_text(encoding="utf-8"))


def control_characters(text):
    """Control, surrogate, private-use and unassigned characters (variation selectors of emoji are none of these)."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn")]


@pytest.mark.parametrize("path", [SMS, INSTRUCTIONS, SAMPLES / "README.md"], ids=lambda p: p.name)
def test_bytes(path):
    raw = path.read_bytes()
    raw.decode("utf-8")
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n") and not raw.endswith(b"\n\n")


def test_sms_layout():
    lines = SMS.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert len(lines) == 2136
    for line in lines:
        assert line.count("\t") == 1, line
        label, text = line.split("\t")
        assert label in ("ham", "spam"), line
        assert text and text == text.strip(), line
        assert not control_characters(text), line


def test_sms_label_counts():
    assert Counter(label for label, _ in read_sms()) == {"ham": 1836, "spam": 300}


def test_sms_labels_are_shuffled():
    labels = [label for label, _ in read_sms()]
    for start in range(0, len(labels) - 303, 304):
        share = labels[start:start + 304].count("spam") / 304
        assert 0.08 < share < 0.26


def test_sms_quotes_are_literal():
    """Some texts open with a quotation mark: a reader that interprets quotes would change or swallow rows."""
    rows = read_sms()
    lines = SMS.read_text(encoding="utf-8").splitlines()
    assert ["\t".join(row) for row in rows] == lines
    for label in ("ham", "spam"):
        opening = [text for lab, text in rows if lab == label and text.startswith('"')]
        assert any(text.count('"') % 2 for text in opening)
    with open(SMS, encoding="utf-8", newline="") as f:
        assert len(list(csv.reader(f, delimiter="\t"))) < len(lines)


def test_sms_unique_after_normalising():
    normal = [normalise(text) for _, text in read_sms()]
    assert all(normal)
    assert [t for t, n in Counter(normal).items() if n > 1] == []


def test_sms_no_near_copies():
    """No two messages of four or more distinct words share 60 % of their vocabulary."""
    words = [set(normalise(text).split()) for _, text in read_sms()]
    words = [w for w in words if len(w) >= 4]
    for i, a in enumerate(words):
        for b in words[:i]:
            assert len(a & b) < 0.6 * len(a | b), (a, b)


def test_sms_no_two_messages_are_made_from_one_template():
    """A template with other words put in would leave a run of words: no six in a row stand in two messages.

    So whatever the split, no template can be in two parts.
    """
    seen = {}
    for _, text in read_sms():
        words = normalise(text).split()
        for start in range(len(words) - 5):
            run = tuple(words[start:start + 6])
            assert seen.setdefault(run, text) == text, (run, seen[run], text)


def test_counting_words_does_not_solve_the_sample():
    """Words and pairs of words, counted on seven tenths, do not reach 0.99 on the rest, for any of five splits."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    spam = [text for label, text in read_sms() if label == "spam"]
    for seed in range(5):
        rng = random.Random(seed)
        rows = [(text, 1) for text in spam]
        rows += [(text, 0) for text in rng.sample([text for label, text in read_sms() if label == "ham"], len(spam))]
        rng.shuffle(rows)
        cut = len(rows) * 7 // 10
        for analyzer, ngrams in (("word", (1, 2)), ("char_wb", (2, 5))):
            model = make_pipeline(TfidfVectorizer(analyzer=analyzer, ngram_range=ngrams, sublinear_tf=True),
                                  LogisticRegression(C=30, max_iter=1000))
            model.fit(*zip(*rows[:cut]))
            accuracy = model.score(*zip(*rows[cut:]))
            assert 0.7 < accuracy < 0.99, (seed, analyzer, accuracy)


@pytest.mark.parametrize("seed", [0, 42, 123])
def test_sms_splits_share_no_message(seed):
    rng = random.Random(seed)
    rows = read_sms()
    spam = [row for row in rows if row[0] == "spam"]
    ham = rng.sample([row for row in rows if row[0] == "ham"], len(spam))
    balanced = ham + spam
    rng.shuffle(balanced)
    first, second = len(balanced) * 7 // 10, len(balanced) * 8 // 10
    parts = [balanced[:first], balanced[first:second], balanced[second:]]
    assert [len(part) for part in parts] == [420, 60, 120]
    train, validation, test = ({normalise(text) for _, text in part} for part in parts)
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_sms_length_spread():
    rows = read_sms()
    for label in ("ham", "spam"):
        texts = [text for lab, text in rows if lab == label]
        assert min(len(text.split()) for text in texts) <= 2
        assert max(len(text) for text in texts) > 200
    assert max(len(text) for _, text in rows) <= 340


def test_sms_addresses_and_numbers_are_fictitious():
    for _, text in read_sms():
        for host in re.findall(r"(?:[\w-]+\.)+[a-z]{2,}", text):
            if re.search(r"\.(com|net|org|edu|uk|info|io|co)\b", host):
                assert re.search(r"(^|\.)example\.(com|net|org)$", host), text
        for number in re.findall(r"(?<!\d)0\d[\d ]{7,}\d", text):
            assert re.match(r"(01632960|07700900|08081570|09098790)\d{3}$", number.replace(" ", "")), text
        for number in re.findall(r"\b555-\d+", text):
            assert re.fullmatch(r"555-01\d\d", number), text


def test_instructions_layout():
    raw = INSTRUCTIONS.read_text(encoding="utf-8")
    entries = json.loads(raw)
    assert raw == json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    assert len(entries) == 1_150
    for entry in entries:
        assert list(entry) == ["instruction", "input", "output"]
        for value in entry.values():
            assert isinstance(value, str)
            assert value == value.strip()
            assert not control_characters(value.replace("\n", "")), entry
        assert entry["instruction"] and entry["output"], entry


def test_instructions_unique():
    keys = Counter((normalise_task(e["instruction"]), normalise_task(e["input"])) for e in read_instructions())
    assert [key for key, n in keys.items() if n > 1] == []


def normalise_task(text):
    """Lower case without punctuation; digits stay, since 'Add 2 and 3' and 'Add 4 and 5' are two tasks."""
    return " ".join(re.sub(r"[^\w]+", " ", text.lower()).split())


def test_instructions_about_half_without_input():
    entries = read_instructions()
    share = sum(e["input"] == "" for e in entries) / len(entries)
    assert 0.4 < share < 0.6


def test_instructions_sums_and_sorting():
    """What can be recomputed from the entry itself is recomputed."""
    done = Counter()
    for e in read_instructions():
        task, given, answer = e["instruction"], e["input"], e["output"]
        items = given.split(", ")
        if found := re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)", answer):
            a, sign, b, result = found.groups()
            assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b)), e
            assert sorted(re.findall(r"\d+", task)) == sorted([a, b]), e
            done["sum"] += 1
        elif found := re.fullmatch(r"What is (\d+) (times|divided by) (\d+)\?", task):
            a, sign, b = found.groups()
            expected = int(a) * int(b) if sign == "times" else int(a) / int(b)
            assert float(re.findall(r"\d+", answer)[-1]) == expected, e
            done["sum"] += 1
        elif task.startswith("Sort the words alphabetically"):
            assert answer.split(", ") == sorted(items), e
            done["sort"] += 1
        elif "ascending order" in task or "descending order" in task:
            expected = sorted(map(int, items), reverse="descending" in task)
            assert list(map(int, answer.split(", "))) == expected, e
            done["sort"] += 1
        elif task.startswith("Write the word backwards"):
            assert answer == given[::-1], e
            done["count"] += 1
        elif task.startswith("How many words are in the sentence"):
            assert f" {len(given.split())} " in answer, e
            done["count"] += 1
        elif task.startswith("How many letters are in the word"):
            assert f" {len(given)} " in answer, e
            done["count"] += 1
    assert done["sum"] >= 5 and done["sort"] >= 6 and done["count"] >= 3


UNITS = {  # to a base unit; temperatures are handled apart
    "metre": 1, "kilometre": 1000, "centimetre": 0.01, "millimetre": 0.001, "feet": 0.3048, "inch": 0.0254,
    "yard": 0.9144, "mile": 1609.344, "gram": 1, "kilogram": 1000, "pound": 453.59237, "ounce": 28.349523125,
    "litre": 1, "millilitre": 0.001, "second": 1, "minute": 60, "hour": 3600, "day": 86400,
}


def unit_factor(word):
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in UNITS:
            return UNITS[form]
    return None


def test_instructions_conversions():
    done = 0
    for e in read_instructions():
        found = re.fullmatch(r"([\d.,]+) ([\w ]+?) is (?:about )?([\d.,]+) ([\w ]+)\.", e["output"])
        if not found:
            continue
        a, unit_a, b, unit_b = found.groups()
        a, b = float(a.replace(",", "")), float(b.replace(",", ""))
        if unit_a == "degrees Celsius":
            expected = a * 9 / 5 + 32
        elif unit_a == "degrees Fahrenheit":
            expected = (a - 32) * 5 / 9
        elif unit_factor(unit_a) and unit_factor(unit_b):
            expected = a * unit_factor(unit_a) / unit_factor(unit_b)
        else:
            continue
        done += 1
        places = 0 if "nearest" in e["instruction"] else 1 if "one decimal" in e["instruction"] else 6
        assert round(expected, places) == pytest.approx(b), e
    assert done >= 15


def test_instructions_are_what_their_script_makes():
    """One source: the word lists in the script and the entries written by themselves."""
    assert make_instructions.main(["--check"]) == 0


def test_the_script_notices_a_file_that_is_not_what_it_makes(tmp_path, monkeypatch, capsys):
    for name in ("instructions.json", "instruction-kinds.json", "instructions-written.json"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    monkeypatch.setattr(make_instructions, "FOLDER", tmp_path)
    (tmp_path / "instructions.json").write_text("[]")
    assert make_instructions.main(["--check"]) == 1
    assert "instructions.json is not what the script makes" in capsys.readouterr().out
    assert make_instructions.main([]) == 0 and make_instructions.main(["--check"]) == 0


def test_each_instruction_has_a_kind_and_the_test_part_has_both_sorts():
    """More than twenty kinds; of the test entries many ask for an item of the training part in another form."""
    entries, kinds = read_instructions(), json.loads((SAMPLES / "instruction-kinds.json").read_text(encoding="utf-8"))
    assert len(kinds) == len(entries) and all(list(kind) == ["kind", "item"] for kind in kinds)
    sizes = Counter(kind["kind"] for kind in kinds)
    assert sum(n >= 10 for n in sizes.values()) >= 20
    n_train, n_test = int(0.85 * len(entries)), int(0.10 * len(entries))
    trained = {(kind["kind"], kind["item"]) for kind in kinds[:n_train]}
    seen = [(kind["kind"], kind["item"]) in trained for kind in kinds[n_train : n_train + n_test]]
    assert 30 <= sum(seen) <= n_test - 30


ANSWERS = {  # instruction -> what its answer must be, from the input
    "Work out the sum.": lambda given: str(sum(map(int, given.split(" + ")))),
    "Work out the difference.": lambda given: str(int(given.split(" - ")[0]) - int(given.split(" - ")[1])),
    "Work out the product.": lambda given: str(int(given.split(" x ")[0]) * int(given.split(" x ")[1])),
    "Put the words into the order of a dictionary.": lambda given: ", ".join(sorted(given.split(", "))),
}


def test_instructions_made_by_the_script_are_right():
    """What can be recomputed is; words that are turned stay the words that were given."""
    done = Counter()
    for e in read_instructions():
        task, given, answer = e["instruction"], e["input"], e["output"]
        if task in ANSWERS:
            assert answer == ANSWERS[task](given), e
            done[task] += 1
        elif found := re.fullmatch(r"Spell '(\w+)' from the last letter to the first.", task):
            assert answer == found[1][::-1], e
            done["spell"] += 1
        elif found := re.fullmatch(r"Count the letters of '(\w+)'.", task):
            assert f" {len(found[1])} " in answer, e
            done["count"] += 1
        elif task in ("Find the odd one out.", "Which word does not belong with the others?"):
            assert answer in given.split(", "), e
            done["odd"] += 1
        elif task == "Fill in the gap with 'a' or 'an'." and given.startswith("___"):
            assert answer in (given.replace("___", "a"), given.replace("___", "an")), e
            done["article"] += 1
        assert not re.search(r"\ba [aeio]\w+ (is|called)|called a [aeiou]|\ban? an? ", answer), e
    assert all(n >= 5 for n in done.values()) and len(done) == 8
