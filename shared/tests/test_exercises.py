"""Every check accepts a solution, reports a stub as not written, and rejects plausible wrong answers."""

import ast
import json
import math
import re

import pytest
import tiktoken
import torch

from shared.course import ROOT, notebooks
from shared.exercises import check, judge, known_exercises

BORDER = re.compile(r'([,.:;?_!"()\']|--|\s)')
END = 50_256


def gpt2():
    return tiktoken.get_encoding("gpt2")


def alone(ids):
    return [(i, gpt2().decode([i])) for i in ids]


def batch(txt, length, stride, first=0, shift=1, wide=0):
    ids = gpt2().encode(txt)
    starts = [first + i * (stride + wide) for i in range(4)]
    inputs = torch.tensor([ids[i : i + length] for i in starts])
    return inputs, torch.tensor([ids[i + shift : i + shift + length] for i in starts])


def good_batch(txt, length, stride):
    return batch(txt, length, stride)


def shared_tokens(length, stride):
    return max(0, length - stride)


def embed(ids, token_weight, pos_weight):
    if ids.shape[1] > len(pos_weight):
        raise ValueError(f"{ids.shape[1]} tokens, {len(pos_weight)} positions")
    return token_weight[ids] + pos_weight[: ids.shape[1]]


def embed_in_place(ids, token_weight, pos_weight):
    result = embed(ids, token_weight, pos_weight)
    token_weight *= 0
    return result


def embed_always_row_zero(ids, token_weight, pos_weight):
    return embed(ids, token_weight, pos_weight[:1].expand_as(pos_weight))


def embed_silent(ids, token_weight, pos_weight):
    length = min(ids.shape[1], len(pos_weight))
    return token_weight[ids[:, :length]] + pos_weight[:length]


def packed(documents, before=False, last=True, between_text=False, allowed=False):
    ids = []
    for text in documents:
        inside = gpt2().encode(text, **({"allowed_special": "all"} if allowed else {"disallowed_special": ()}))
        ids += [END, *inside] if before else [*inside, END]
    if between_text:
        return gpt2().encode("<|endoftext|>".join(documents), allowed_special="all") + [END] * bool(documents)
    return ids if last else ids[:-1]


# Exercise -> its solution(s), then wrong answers with what is wrong with them.
CASES = {
    "2.1": (
        (lambda text: alone(gpt2().encode(text)),),
        {
            "only the ids": (lambda text: gpt2().encode(text),),
            "pieces before ids": (lambda text: [(piece, i) for i, piece in alone(gpt2().encode(text))],),
            "encodes letter by letter": (lambda text: [p for c in text for p in alone(gpt2().encode(c))],),
            "encodes word by word": (lambda text: [p for w in text.split() for p in alone(gpt2().encode(w))],),
            "strips the pieces": (lambda text: [(i, piece.strip()) for i, piece in alone(gpt2().encode(text))],),
            "only for the example": (lambda text: alone([33901, 86, 343, 86, 220, 959]),),
            "a dict loses the second w": (lambda text: list(dict(alone(gpt2().encode(text))).items()),),
            "returns nothing": (lambda text: None,),
        },
    ),
    "2.2": (
        (good_batch, shared_tokens),
        {
            "targets not shifted": (lambda t, n, s: batch(t, n, s, shift=0), shared_tokens),
            "targets shifted by two": (lambda t, n, s: batch(t, n, s, shift=2), shared_tokens),
            "stride off by one": (lambda t, n, s: batch(t, n, s, wide=1), shared_tokens),
            "starts at the second row": (lambda t, n, s: batch(t, n, s, first=s), shared_tokens),
            "shuffled": (lambda t, n, s: tuple(x[[2, 0, 3, 1]] for x in batch(t, n, s)), shared_tokens),
            "only the inputs": (lambda t, n, s: batch(t, n, s)[0], shared_tokens),
            "negative overlap": (good_batch, lambda n, s: n - s),
            "overlap counts the stride": (good_batch, lambda n, s: min(n, s)),
            "overlap off by one": (good_batch, lambda n, s: max(0, n - s + 1)),
        },
    ),
    "2.3": (
        (lambda text: [item for item in BORDER.split(text) if item],),
        {
            "drops white space": (lambda text: [item for item in BORDER.split(text) if item.strip()],),
            "keeps empty strings": (lambda text: BORDER.split(text),),
            "one character each": (lambda text: list(text),),
            "the whole text": (lambda text: [text] if text else [],),
            "splits at spaces only": (lambda text: [item for item in re.split(r"(\s)", text) if item],),
            "cuts the dash in two": (lambda text: [t for t in re.split(r'([-,.:;?_!"()\']|\s)', text) if t],),
            "no capture group": (lambda text: [t for t in re.split(r"[,.\s]", text) if t],),
            "an iterator": (lambda text: (t for t in BORDER.split(text) if t),),
        },
    ),
    "2.4": (
        (packed,),
        {
            "separator in front": (lambda documents: packed(documents, before=True),),
            "none after the last": (lambda documents: packed(documents, last=False),),
            "a document can end itself": (lambda documents: packed(documents, allowed=True),),
            "joined as text": (lambda documents: packed(documents, between_text=True),),
            "no separator": (lambda documents: [i for i in packed(documents) if i != END],),
            "off by one id": (lambda documents: [i + (i == END) for i in packed(documents)],),
            "a list per document": (lambda documents: [packed([text]) for text in documents],),
            "skips empty documents": (lambda documents: packed([text for text in documents if text]),),
            "empties the caller's list": (lambda documents: packed([documents.pop(0) for _ in list(documents)]),),
        },
    ),
    "2.5": (
        (lambda n, length, stride: max(0, -(-(n - length) // stride)),),
        {
            "rounds down": (lambda n, length, stride: max(0, (n - length) // stride),),
            "always one more": (lambda n, length, stride: max(0, (n - length) // stride + 1),),
            "forgets the target": (lambda n, length, stride: max(0, math.ceil((n - length + 1) / stride)),),
            "negative for short texts": (lambda n, length, stride: math.ceil((n - length) / stride),),
            "ignores the stride": (lambda n, length, stride: max(0, n - length),),
            "divides the text": (lambda n, length, stride: n // stride,),
            "a fraction": (lambda n, length, stride: max(0, n - length) / stride,),
            "a float": (lambda n, length, stride: float(max(0, math.ceil((n - length) / stride))),),
        },
    ),
    "2.6": (
        (embed,),
        {
            "no positions": (lambda ids, t, p: t[ids],),
            "position from the id": (lambda ids, t, p: t[ids] + p[ids.clamp(max=len(p) - 1)],),
            "same position everywhere": (embed_always_row_zero,),
            "cuts what is too long": (embed_silent,),
            "multiplies": (lambda ids, t, p: t[ids] * p[: ids.shape[1]],),
            "spoils the weight": (embed_in_place,),
            "positions backwards": (lambda ids, t, p: embed(ids, t, p.flip(0)),),
            "full length refused": (lambda ids, t, p: embed(ids, t, p[:-1]) if ids.shape[1] > 4 else embed(ids, t, p),),
            "too long is no ValueError": (lambda ids, t, p: t[ids] + p[: ids.shape[1]],),
            "sums the text up": (lambda ids, t, p: embed(ids, t, p).sum(dim=1),),
        },
    ),
}


def all_exercises():
    modules = [path.stem for path in (ROOT / "shared" / "exercises").glob("*.py") if path.stem != "__init__"]
    return [name for module in modules for name in known_exercises(module)]


def test_every_exercise_is_tested_here():
    assert sorted(CASES) == sorted(all_exercises())


@pytest.mark.parametrize("name", sorted(CASES))
def test_solution_is_accepted(name):
    verdict = judge(name, *CASES[name][0])
    assert verdict.outcome == "right", verdict


@pytest.mark.parametrize("name, mistake", [(name, mistake) for name in sorted(CASES) for mistake in CASES[name][1]])
def test_wrong_answer_is_rejected_with_a_reason(name, mistake):
    verdict = judge(name, *CASES[name][1][mistake])
    assert verdict.outcome == "wrong"
    assert len(str(verdict)) > len(f"Exercise {name}: not yet. ") + 20


@pytest.mark.parametrize("name", sorted(CASES))
def test_at_least_four_wrong_answers(name):
    assert len(CASES[name][1]) >= 4


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_stub_is_not_written_yet(name, capsys):
    def stub(*args):
        raise NotImplementedError(f"exercise {name}")

    check(name, *[stub] * len(CASES[name][0]))
    assert capsys.readouterr().out == f"Exercise {name}: stub is not written yet.\n"


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(ValueError, match="no exercise '2.99'; chapter 2 has 2.1, 2.2"):
        check("2.99", print)
    with pytest.raises(ValueError, match="no exercise '77.1'; chapter 77 has none"):
        check("77.1", print)
    with pytest.raises(ValueError, match="no exercise 'nonsense'"):
        check("nonsense", print)


def test_an_exception_in_the_answer_is_reported_not_raised(capsys):
    check("2.5", lambda n, length, stride: n // 0)
    assert "ZeroDivisionError" in capsys.readouterr().out

    def asserts(n, length, stride):
        assert n < 0, "my own check"

    check("2.5", asserts)
    out = capsys.readouterr().out
    assert "AssertionError" in out and "my own check" in out and "claim" not in out


def test_the_number_of_attempts_is_explained(capsys):
    check("2.2", good_batch)
    assert "takes first_batch, shared_tokens, in this order; it got 1" in capsys.readouterr().out


def test_the_stub_that_is_left_is_named(capsys):
    def shared_tokens(max_length, stride):
        raise NotImplementedError("exercise 2.2")

    check("2.2", good_batch, shared_tokens)
    assert capsys.readouterr().out == "Exercise 2.2: shared_tokens is not written yet.\n"


def test_the_number_may_be_given_without_quotes():
    assert judge(2.5, CASES["2.5"][0][0]).outcome == "right"


def test_checking_leaves_the_random_numbers_alone():
    def draws(n, length, stride):
        torch.manual_seed(0)
        return max(0, -(-(n - length) // stride))

    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    assert judge("2.5", draws).outcome == "right"
    assert torch.equal(torch.rand(1), want)


def test_messages_do_not_show_the_solution():
    """A failed claim says what should hold; the expected ids of an exercise stand in no message."""
    verdict = judge("2.1", lambda text: [(0, text)])
    assert "33901" not in str(verdict)


def exercise_cells():
    for path in notebooks():
        if not path.stem.startswith("solutions"):
            book = json.loads(path.read_text(encoding="utf-8"))
            yield path, ["".join(cell["source"]) for cell in book["cells"]], book["cells"]


def test_each_exercise_has_statement_minutes_hint_stub_check_and_solution():
    found = []
    for path, sources, cells in exercise_cells():
        solutions = (path.parent / "solutions.ipynb").read_text(encoding="utf-8")
        for place, source in enumerate(sources):
            for name in re.findall(r"^### Exercise ([\w.]+):", source, flags=re.M):
                found.append(name)
                statement = source[source.index(f"### Exercise {name}:") :]
                assert re.search(r"\(\d+ min\)", statement.splitlines()[0]), f"{name}: minutes"
                assert "**By hand" in statement, f"{name}: example by hand"
                assert "<details><summary>Hint</summary>" in statement, f"{name}: hint"
                stub, check_cell = cells[place + 1], cells[place + 2]
                assert stub["metadata"].get("tags") == ["exercise"] and f"exercise {name}" in sources[place + 1]
                assert any(isinstance(n, ast.Raise) for n in ast.walk(ast.parse(sources[place + 1])))
                assert check_cell["metadata"].get("tags") == ["check"] and f'check("{name}"' in sources[place + 2]
                stored = "".join(check_cell["outputs"][0]["text"])
                assert re.fullmatch(rf"Exercise {name}: \w+ is not written yet.\n", stored)
                assert f"## Exercise {name}:" in solutions and f'check(\\"{name}\\"' in solutions, f"{name}: solution"
    assert sorted(found) == sorted(all_exercises())


def test_solutions_are_stored_solved():
    for path in notebooks():
        if path.stem.startswith("solutions"):
            book = json.loads(path.read_text(encoding="utf-8"))
            sources = "\n".join("".join(cell["source"]) for cell in book["cells"])
            outputs = "".join("".join(o.get("text", "")) for cell in book["cells"] for o in cell.get("outputs", []))
            checked = set(re.findall(r'^check\("([\w.]+)"', sources, flags=re.M))
            assert checked and checked == set(re.findall(r"Exercise ([\w.]+): every claim holds", outputs))
