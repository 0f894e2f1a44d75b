"""``python3 -m shared chat``: what it answers to, settings, stopping an answer, and models of every kind."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from shared import chat
from shared.checkpoints import Progress, save_checkpoint
from shared.course import ROOT
from shared.tests.limits import HANGS

CFG = {"vocab_size": 50_257, "context_length": 24, "emb_dim": 32, "n_heads": 4, "n_layers": 1, "drop_rate": 0.0,
       "qkv_bias": True, "tie_weights": True}  # fmt: skip


def conversation(monkeypatch, capsys, lines, *arguments):
    """What is printed when these lines are typed, then the input ends; and the exit status."""
    typed = iter(lines)

    def read(prompt):
        try:
            line = next(typed)
        except StopIteration:
            raise EOFError from None
        if line == "Ctrl-C":
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("builtins.input", read)
    status = chat.main(list(arguments))
    return capsys.readouterr().out, status


@pytest.fixture
def model(ch05):
    torch.manual_seed(1)
    return ch05.GPTModel(CFG).eval()


def test_every_kind_of_model_is_loaded(ch05, model, tmp_path):
    ch05.export_gpt2(model, CFG, tmp_path / "gpt2")
    ch05.export_gguf(model, tmp_path / "gguf")
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "checkpoint.pth", model, torch.optim.AdamW(model.parameters()), CFG, Progress())
    ids = torch.arange(10)[None]
    with torch.no_grad():
        want = model(ids)
        for name in ("gpt2", "gguf", "gguf/model.gguf", "run"):
            loaded, tokenizer = chat.load(ch05, str(tmp_path / name))
            torch.testing.assert_close(loaded(ids), want, rtol=1e-5, atol=1e-5)
            assert not loaded.training and tokenizer.encode("Hello") == [15496]
    small, _ = chat.load(ch05, "13M")
    assert small.tok_emb.embedding_dim == 192


def test_the_small_model_goes_on_with_a_text_and_remembers_it(ch05, monkeypatch, capsys):
    lines = ["The old house", " and", "/new", "The old house"]
    out, status = conversation(monkeypatch, capsys, lines, "13M", "--temperature", "0", "--max-new-tokens", "8")
    small, tokenizer = chat.load(ch05, "13M")
    ids = torch.tensor([tokenizer.encode("The old house")])
    whole = ch05.generate(small, ids, 8, 256, eos_id=50_256)
    longer = torch.cat([whole, torch.tensor([tokenizer.encode(" and")])], dim=1)
    first = tokenizer.decode(whole[0, ids.shape[1] :].tolist())
    second = tokenizer.decode(ch05.generate(small, longer, 8, 256, eos_id=50_256)[0, longer.shape[1] :].tolist())
    assert status == 0 and out.partition("\n")[2] == f"{first}\n{second}\nforgotten\n{first}\n\n"


def test_settings_can_be_changed_and_wrong_ones_are_explained(monkeypatch, capsys):
    lines = ["/help", "/temperature 0", "/temperature -1", "/temperature", "/top-p 0.5", "/top-p 2", "/what", "Ctrl-C",
             "", "/quit", "never read"]  # fmt: skip
    out, status = conversation(monkeypatch, capsys, lines, "13M")
    assert status == 0 and "forget what was said" in out and "temperature is 0\n" in out
    assert "temperature must be 0 (greedy) or above, and below 1e+18; it is -1" in out
    assert "/temperature needs a number" in out and "top-p is 0.5" in out
    assert "top_p must be above 0 and at most 1, or None; it is 2" in out
    assert "there is no /what" in out and "/quit or Ctrl-D ends" in out


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "there is no folder nowhere, and no size of GPT-2 of that name"),
    (["nowhere.gguf"], "No such file"),
    (["13M", "--temperature", "-1"], "temperature must be 0"),
    (["13M", "--max-new-tokens", "0"], "max_new_tokens must be a whole number, 1 or more"),
])  # fmt: skip
def test_what_cannot_be_had_is_said_in_one_line(monkeypatch, capsys, arguments, message):
    out, status = conversation(monkeypatch, capsys, [], *arguments)
    assert status == 1 and message in out and len(out.splitlines()) == 1


def test_a_missing_smollm2_is_said(ch05, monkeypatch, capsys):
    monkeypatch.setattr("shared.assets.fetch_smollm2", lambda **_: None)
    out, status = conversation(monkeypatch, capsys, [])
    assert status == 1 and "SmolLM2 is not here; name another model, for example 13M" in out


def test_an_answer_comes_in_whole_characters(ch05, model):
    """A character of several tokens is held back until its last byte has come."""
    tokenizer = ch05.BytePairTokenizer(*ch05.gpt2_vocabulary())
    ids = tokenizer.encode("a猫b 🇫🇷!")
    talk = chat.Talk(ch05, model, tokenizer)
    talk.tokens = lambda *_: iter(ids)
    pieces = list(talk.answer("x", 99, 0.0, 0.9))
    assert "".join(pieces) == "a猫b 🇫🇷!" and len(ids) > len([piece for piece in pieces if piece])
    assert talk.ids == tokenizer.encode("x") + ids


def test_a_conversation_is_kept_in_turns_even_when_it_was_stopped(ch05, model):
    tokenizer = ch05.BytePairTokenizer(*ch05.gpt2_vocabulary())
    tokenizer.special |= {"<|im_start|>": 1, "<|im_end|>": 2}
    model.context_length = 500
    talk = chat.Talk(ch05, model, tokenizer)
    asked = []
    talk.tokens = lambda ids, *_: asked.append(ids) or iter(tokenizer.encode(" one two three"))
    answer = talk.answer("Hi", 9, 0.0, None)
    assert next(answer) == " one"
    answer.close()
    list(talk.answer("Go on", 9, 0.0, None))
    assert talk.messages == [chat.SYSTEM, ("user", "Hi"), ("assistant", " one"), ("user", "Go on"),
                             ("assistant", " one two three")]  # fmt: skip
    assert asked[1] == ch05.chat_ids(talk.messages[:4], tokenizer)


def test_a_conversation_begins_as_the_models_own_template_has_it(smollm2):
    assert f"<|im_start|>{chat.SYSTEM[0]}\n{chat.SYSTEM[1]}<|im_end|>" in smollm2.settings["tokenizer.chat_template"]


def test_the_oldest_turns_make_room_and_the_first_message_stays(ch05, model):
    tokenizer = ch05.BytePairTokenizer(*ch05.gpt2_vocabulary())
    tokenizer.special |= {"<|im_start|>": 1, "<|im_end|>": 2}
    model.context_length = 60
    talk = chat.Talk(ch05, model, tokenizer)
    for number in range(6):
        ids = talk.prompt(f"question {number}", 10)
        assert len(ids) + 10 <= 60 and talk.messages[0] == chat.SYSTEM
        assert talk.messages[-1] == ("user", f"question {number}")
        talk.messages += [("assistant", "an answer of six words or so")]
    assert len(talk.messages) < 13


def test_a_vocabulary_without_an_end_is_refused(ch05, model):
    tokenizer = ch05.BytePairTokenizer(*ch05.gpt2_vocabulary())
    tokenizer.special = {"<|im_start|>": 1}
    with pytest.raises(ValueError, match="no token that ends a text"):
        chat.Talk(ch05, model, tokenizer)


def test_a_text_longer_than_the_context_goes_on(ch05, model):
    talk = chat.Talk(ch05, model, ch05.BytePairTokenizer(*ch05.gpt2_vocabulary()))
    ids = list(range(30))
    want = ch05.generate(model, torch.tensor([ids]), 40, 24, eos_id=50_256)[0, 30:].tolist()
    assert list(talk.tokens(ids, 40, 0.0, None)) == want


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_stops_the_answer_and_not_the_program():
    command = [sys.executable, "-u", "-c", "import sys; from shared.chat import main; sys.exit(main(sys.argv[1:]))",
               "13M", "--max-new-tokens", "100000"]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                               encoding="utf-8")  # fmt: skip
    end = time.monotonic() + HANGS
    try:
        process.stdin.write("The old house\n")
        process.stdin.flush()
        seen = ""
        while len(seen) < 300 and time.monotonic() < end:       # it has begun to write
            seen += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate("/temperature 0\n/quit\n", timeout=HANGS)
    finally:
        process.kill()
    assert process.returncode == 0 and " ... stopped" in out and "temperature is 0" in out
