"""Appendix D's train.py as a script: data, resume, signals, several processes, and what it refuses."""

import contextlib
import csv
import errno
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from shared.compact import unpack
from shared.course import ROOT
from shared.measure import peak_memory
from shared.tests.limits import HANGS

SCRIPT = ROOT / "appendix_d_training_loop" / "train.py"
SMALL = {
    "steps": 12,
    "emb-dim": 32,
    "n-layers": 2,
    "context-length": 16,
    "global-batch": 6,
    "micro-batch": 6,
    "warmup-steps": 3,
    "eval-every": 6,
    "eval-rows": 10,
    "save-every": 4,
    "log-every": 1,
    "drop-rate": 0.1,
    "prompt": "",
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COURSE_OFFLINE": "1"}


@pytest.fixture(scope="module")
def train():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("course_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module      # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(train, sample_story, tmp_path_factory):
    """Token files of the sample story, cut into five texts of which two are held out."""
    folder = tmp_path_factory.mktemp("texts")
    size = len(sample_story) // 5
    for number in range(5):
        piece = sample_story[number * size : (number + 1) * size]
        (folder / f"{number}.txt").write_text(piece, encoding="utf-8")
    train.prepare(folder, folder / "data", held_out=2)
    return folder / "data"


def command(data, out, processes=1, **changes):
    options = SMALL | {name.replace("_", "-"): value for name, value in changes.items()}
    words = [word for name, value in options.items()
             for word in ([f"--{name}"] if value is True else (f"--{name}", str(value)))]  # fmt: skip
    launcher = [sys.executable, str(SCRIPT)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launcher.append(str(SCRIPT))
    return [*launcher, "run", str(data), str(out), *words]


def run(data, out, processes=1, **changes):
    done = subprocess.run(command(data, out, processes, **changes), env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=HANGS)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


def weights(out):
    return torch.load(out / "checkpoint.pth", weights_only=True)["model_state_dict"]


def log(out):
    with open(out / "log.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uncut(data, tmp_path_factory):
    """One process, without a break."""
    out = tmp_path_factory.mktemp("uncut")
    run(data, out)
    return out


@pytest.fixture(scope="module")
def without_dropout(data, tmp_path_factory):
    """One process; without dropout the shares of several processes compute the same."""
    out = tmp_path_factory.mktemp("without_dropout")
    run(data, out, drop_rate=0.0)
    return out


# Data ----------------------------------------------------------------------------------------------------


def test_documents_stay_whole_and_end_with_the_sign(train, data, gpt2, sample_story):
    facts = json.loads((data / "data.json").read_text(encoding="utf-8"))
    assert facts["held_out"] == ["1.txt", "3.txt"] and set(facts["shards"]) == {"train_000.bin", "held_out_000.bin"}
    ids = np.fromfile(data / "train_000.bin", dtype="<u2").tolist()
    size = len(sample_story) // 5
    texts = [sample_story[number * size : (number + 1) * size] for number in (0, 2, 4)]
    assert ids.count(50_256) == 3 and ids[-1] == 50_256
    want = [token for text in texts for token in (*gpt2.encode(text), 50_256)]
    assert gpt2.decode(ids) == gpt2.decode(want) and len(ids) == facts["shards"]["train_000.bin"]


def test_a_single_text_of_which_a_share_is_held_out(train, gpt2, sample_story, tmp_path):
    (tmp_path / "one.txt").write_text(sample_story, encoding="utf-8")
    train.main(["prepare", str(tmp_path), str(tmp_path / "data"), "--held-out", "0.1"])
    parts = {}
    for name in ("train_000.bin", "held_out_000.bin"):
        parts[name] = gpt2.decode(np.fromfile(tmp_path / "data" / name, dtype="<u2").tolist())
    border = math.floor(0.9 * len(sample_story))
    assert parts["train_000.bin"] == sample_story[:border] + "<|endoftext|>"
    assert parts["held_out_000.bin"] == sample_story[border:] + "<|endoftext|>"
    train.main(["prepare", str(tmp_path), str(tmp_path / "all"), "--held-out", "0"])
    assert [path.name for path in (tmp_path / "all").glob("*.bin")] == ["train_000.bin"]
    with pytest.raises(SystemExit, match="have no held-out texts; prepare them with --held-out, or use --eval-every 0"):
        train.main(command(tmp_path / "all", tmp_path / "out")[2:])


@pytest.mark.parametrize("held_out, message", [
    ("1", "has 1 .txt file, so 1 cannot be held out; use a smaller --held-out, or a share of each text, such as"),
    ("1.5", None), ("-1", None), ("nan", None), ("many", None),
])  # fmt: skip
def test_what_cannot_be_held_out(train, tmp_path, capsys, held_out, message):
    (tmp_path / "one.txt").write_text("a text", encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        train.main(["prepare", str(tmp_path), str(tmp_path / "data"), f"--held-out={held_out}"])
    if message is None:
        assert "--held-out" in capsys.readouterr().err


def test_a_folder_without_texts_says_what_it_has(train, tmp_path):
    with pytest.raises(SystemExit, match="has no .txt files; it has: nothing"):
        train.main(["prepare", str(tmp_path), str(tmp_path / "data")])
    for name in ("a.md", "b.md", "c.epub"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "books").mkdir()
    with pytest.raises(SystemExit, match=r"it has: \.md \(2\), .*Texts must be .txt files") as error:
        train.main(["prepare", str(tmp_path), str(tmp_path / "data")])
    assert ".epub (1)" in str(error.value) and "folders (1)" in str(error.value)


def test_a_text_without_spaces_is_prepared_in_little_memory(train, tmp_path):
    """1.5 MB of Chinese; kept whole it took more than 75 times its size."""
    (tmp_path / "one.txt").write_text("猫在温暖的屋顶上睡觉，狗在门前等它下来。" * 25_000, encoding="utf-8")
    _, peak = peak_memory(lambda: train.prepare(tmp_path, tmp_path / "data", held_out=0))
    assert peak < 35


def test_the_warmup_fits_the_run_unless_another_is_asked_for(train, tmp_path):
    for steps, warmup in ((20, 2), (500, 50), (1_000, 100), (20_000, 100)):
        assert train.with_warmup(train.Settings(steps=steps), tmp_path).warmup_steps == warmup
    assert train.with_warmup(train.Settings(steps=20, warmup_steps=7), tmp_path).warmup_steps == 7
    train.check_ranges(train.with_warmup(train.Settings(steps=2), tmp_path))
    # A run that goes on keeps the warmup that it was begun with, also towards a later end.
    (tmp_path / "checkpoint.pth").write_bytes(b"")
    (tmp_path / "settings.json").write_text('{"warmup_steps": 5}', encoding="utf-8")
    assert train.with_warmup(train.Settings(steps=900), tmp_path).warmup_steps == 5
    (tmp_path / "settings.json").write_text('{"warmup_steps": 0}', encoding="utf-8")
    assert train.with_warmup(train.Settings(steps=900), tmp_path).warmup_steps == 0


def test_a_second_run_into_the_same_folder_is_refused(train, data, tmp_path):
    alone = train.Team(0, 1, torch.device("cpu"))
    with train.only_run(tmp_path / "out", alone):
        begun = subprocess.run(command(data, tmp_path / "out"), env=ENVIRONMENT, capture_output=True, text=True)
        assert begun.returncode == 1 and "another run is writing into" in begun.stderr
        with train.only_run(tmp_path / "out", train.Team(1, 2, torch.device("cpu"))):
            pass        # the other processes of the same run do not ask
    with train.only_run(tmp_path / "out", alone):
        pass


def test_on_a_file_system_without_locks_nothing_is_refused(train, tmp_path, monkeypatch):
    for number in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES):
        def fails(*_, number=number, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(train.filelock.FileLock, "acquire", fails)
        refused = pytest.raises(OSError) if number == errno.EACCES else contextlib.nullcontext()
        with refused, train.only_run(tmp_path / "out", train.Team(0, 1, torch.device("cpu"))):
            pass


def test_a_run_that_makes_no_sense_leaves_no_folder(train, data, tmp_path):
    with pytest.raises(SystemExit, match="--steps must be at least 1"):
        train.main(command(data, tmp_path / "out", steps=-1)[2:])
    assert not (tmp_path / "out").exists()


def test_a_share_held_out_is_noted(train, tmp_path):
    (tmp_path / "one.txt").write_text("one two three " * 100, encoding="utf-8")
    train.prepare(tmp_path, tmp_path / "data", held_out=0.25)
    facts = json.loads((tmp_path / "data" / "data.json").read_text(encoding="utf-8"))
    assert facts["held_out_share"] == 0.25 and facts["held_out"] == []


def test_every_row_once_in_each_pass_and_in_another_order(train):
    for n_rows, batch in ((20, 4), (23, 4), (5, 5)):
        per_pass = math.ceil(n_rows / batch)
        passes = []
        for number in range(3):
            steps = range(number * per_pass, (number + 1) * per_pass)
            passes.append(np.concatenate([train.rows_of_step(step, n_rows, batch, 7) for step in steps]).tolist())
            assert sorted(passes[-1]) == list(range(n_rows))
        assert passes[0] != passes[1] != passes[2]


def test_rows_are_neighbours_and_cross_no_file(train, tmp_path):
    sizes = {"train_000.bin": 34, "train_001.bin": 3, "train_002.bin": 21, "held_out_000.bin": 11}
    start = 0
    for name, n_tokens in sizes.items():
        np.arange(start, start + n_tokens, dtype="<u2").tofile(tmp_path / name)
        start += 100
    (tmp_path / "data.json").write_text(json.dumps({"vocab_size": 50_257, "shards": sizes}), encoding="utf-8")
    rows = train.Rows(tmp_path, "train", 10)
    inputs, targets = rows.batch(range(len(rows)))
    assert inputs[:, 0].tolist() == [0, 10, 20, 200, 210] and torch.equal(inputs + 1, targets)
    assert torch.equal(rows.batch([4, 0])[0], inputs[[4, 0]])


def test_damaged_data_are_refused(train, data, tmp_path):
    with pytest.raises(SystemExit, match="data.json is missing; make it with: train.py prepare"):
        train.Rows(tmp_path, "train", 16)
    for name in ("data.json", "train_000.bin", "held_out_000.bin"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    whole = (tmp_path / "train_000.bin").read_bytes()
    (tmp_path / "train_000.bin").write_bytes(whole[:-2])
    with pytest.raises(SystemExit, match="train_000.bin should hold .* tokens, and does not"):
        train.Rows(tmp_path, "train", 16)
    (tmp_path / "train_000.bin").write_bytes(b"\xff" * len(whole))
    with pytest.raises(SystemExit, match="of another vocabulary"):
        train.Rows(tmp_path, "train", 16)
    (tmp_path / "train_000.bin").unlink()
    with pytest.raises(SystemExit, match="train_000.bin should hold"):
        train.Rows(tmp_path, "train", 16)
    facts = json.loads((data / "data.json").read_text(encoding="utf-8")) | {"vocab_size": 100_277}
    (tmp_path / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(SystemExit, match="tokenised with 100277 ids"):
        train.Rows(tmp_path, "train", 16)


# The loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_texts, n_tokens", [(3, 100), (1, 128), (1, 1)])
def test_loss_in_pieces_is_the_plain_loss(train, n_texts, n_tokens):
    """Value and all gradients, also where the rows do not divide into pieces, and where the head is the embedding."""
    cfg = {"vocab_size": 91, "context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0,
           "qkv_bias": True, "tie_weights": True}  # fmt: skip
    torch.manual_seed(0)
    model = train.GPTModel(cfg)
    inputs, targets = torch.randint(0, 91, (2, n_texts, n_tokens))
    want = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")
    gradients = torch.autograd.grad(want / 7, list(model.parameters()))
    loss = train.SummedLoss(model, compile=False)
    got = loss(inputs, targets)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got / 7, list(model.parameters())), gradients)
    with torch.no_grad():
        torch.testing.assert_close(loss(inputs, targets), want)


# One process ---------------------------------------------------------------------------------------------


def test_log_and_settings(uncut):
    lines = log(uncut)
    assert [int(line["step"]) for line in lines] == list(range(1, 13))
    assert [int(line["tokens"]) for line in lines] == [6 * 16 * step for step in range(1, 13)]
    assert [bool(line["held_out"]) for line in lines] == [step % 6 == 0 for step in range(1, 13)]
    assert abs(float(lines[0]["loss"]) - math.log(50_257)) < 0.3
    assert float(lines[-1]["held_out"]) < float(lines[5]["held_out"])
    assert float(lines[0]["lr"]) == 0 and float(lines[3]["lr"]) == 1e-3
    assert json.loads((uncut / "settings.json").read_text(encoding="utf-8"))["emb_dim"] == 32


def test_stopped_by_a_signal_and_started_again_it_is_the_same_run(data, uncut, tmp_path):
    """SIGTERM in the middle: a checkpoint, exit status 0; the same command goes on. With dropout."""
    with subprocess.Popen(command(data, tmp_path), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 3 "):
                process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 0
    stopped = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["progress"]["step"]
    assert 3 <= stopped < 12
    printed = run(data, tmp_path)
    assert f"from step {stopped} to 12" in printed
    assert same(weights(uncut), weights(tmp_path))
    columns = ("step", "tokens", "lr", "loss", "norm", "held_out")
    assert [[line[c] for c in columns] for line in log(tmp_path)] == [[line[c] for c in columns] for line in log(uncut)]


def test_measuring_and_pieces_do_not_change_the_weights(data, uncut, without_dropout, tmp_path):
    run(data, tmp_path / "a", eval_every=0, log_every=5, save_every=12)
    assert same(weights(uncut), weights(tmp_path / "a"))
    run(data, tmp_path / "b", drop_rate=0.0, micro_batch=4)
    for one, other in zip(log(without_dropout), log(tmp_path / "b")):
        assert float(other["loss"]) == pytest.approx(float(one["loss"]), abs=2e-5)


REFUSALS = [
    ({"warmup_steps": 12}, "--warmup-steps 12 and --decay-steps 0 together must be below --steps 12"),
    ({"decay_steps": 9}, "--decay-steps 9 together must be below --steps 12"),
    ({"global_batch": 10_000}, "fewer than --global-batch 10000"),
    ({"context_length": 4_000}, "fewer than --global-batch"),
    ({"save_every": 0}, "must be at least 1"),
    ({"n_heads": 5}, "32 is not divisible by 5"),
    ({"min_lr": 1.0}, "--min-lr 1.0 must lie between 0 and --lr 0.001"),
    ({"lr": "nan"}, "must lie between 0 and --lr nan"),
    ({"context_length": 0}, "--context-length must be at least 1; it is 0"),
    ({"eval_rows": 0}, "--eval-rows must be at least 1"),
    ({"seed": -1}, "--seed must be at least 0"),
    ({"seed": 2**63}, "--seed must be below 2**63"),
    ({"warmup_steps": -1}, "--warmup-steps must be at least 0"),
    ({"weight_decay": "nan"}, "--weight-decay must be at least 0"),
    ({"max_norm": 0}, "--max-norm above 0"),
]


@pytest.mark.parametrize("changes, message", REFUSALS, ids=str)
def test_what_cannot_work_is_refused_in_one_line(train, data, tmp_path, changes, message):
    arguments = command(data, tmp_path, **changes)[2:]
    with pytest.raises(SystemExit) as refused:
        train.main(arguments)
    assert message in str(refused.value.code) and not (tmp_path / "checkpoint.pth").exists()


def test_a_run_cannot_go_on_with_other_settings(train, data, uncut):
    with pytest.raises(SystemExit, match="was begun with lr 0.001, and is to go on with 0.002"):
        train.main(command(data, uncut, lr=0.002)[2:])
    train.main(command(data, uncut, micro_batch=3)[2:])      # this one may change; there is nothing left to do


def test_a_run_cannot_go_on_with_other_data(train, data, uncut, tmp_path):
    (tmp_path / "data.json").write_bytes((data / "data.json").read_bytes())
    facts = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))
    for name in facts["shards"]:
        (tmp_path / name).write_bytes((data / name).read_bytes()[:-2_000])
        facts["shards"][name] -= 1_000
    (tmp_path / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(SystemExit, match="was begun with rows .*, and is to go on with"):
        train.main(command(tmp_path, uncut)[2:])


def test_a_run_cannot_go_on_with_other_texts_of_the_same_length(train, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("the tide came in and went out. " * 90, encoding="utf-8")
    settings = {"steps": 2, "warmup_steps": 0, "eval_every": 0}
    train.prepare(tmp_path, tmp_path / "data", held_out=1)
    train.main(command(tmp_path / "data", tmp_path / "out", **settings)[2:])
    (tmp_path / "0.txt").write_text("the tide went in and came out. " * 90, encoding="utf-8")
    train.prepare(tmp_path, tmp_path / "data", held_out=1)
    with pytest.raises(SystemExit, match="was begun with other data"):
        train.main(command(tmp_path / "data", tmp_path / "out", **settings)[2:])


def test_settings_bind_only_when_something_was_saved(train, data, tmp_path, monkeypatch):
    """A first try that never came to a checkpoint does not lock the folder."""
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train.main(command(data, tmp_path, lr=0.5)[2:])
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["lr"] == 0.5
    train.main(command(data, tmp_path, steps=4, eval_every=0)[2:])
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["lr"] == 1e-3


def test_a_damaged_log_does_not_stop_a_run_and_an_old_line_is_never_lost(train, tmp_path):
    path = tmp_path / "log.csv"
    written = train.Log(path, 0)
    for step in (1, 2, 3):
        written.write(step=step, tokens=9 * step, lr="1e-3", loss="2.0", norm="1.0", held_out="", tokens_per_second="5")
    written.file.close()
    with open(path, "ab") as file:
        file.write(b"1\n4,too,few\n\xff\x00junk\n2,1,2,3,4,5,6,7,8\n")
    again = train.Log(path, 2)
    assert [line["step"] for line in log(tmp_path)] == ["1", "2"]       # before anything new is written
    again.file.close()
    path.write_bytes(b"")
    train.Log(path, 2).file.close()
    assert path.read_text(encoding="utf-8").splitlines() == [",".join(train.Log.FIELDS)]


@pytest.mark.parametrize("name, content, message", [
    ("data.json", "", "data.json is no JSON: line 1, column 1"),
    ("data.json", "[]", "should hold names and values, and holds a list"),
    ("data.json", "{}", "does not say how many tokens its files have"),
    ("data.json", '{"shards": {"train_000.bin": "x"}}', "does not say how many tokens"),
])  # fmt: skip
def test_damaged_facts_are_named(train, tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        train.main(["run", str(tmp_path), str(tmp_path / "out")])


def test_a_folder_that_is_a_file_or_missing(train, data, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for arguments, message in ((command(data, tmp_path / "file")[2:], "File exists|cannot|file"),
                               (["prepare", str(tmp_path / "file"), str(tmp_path / "d")], "is no folder"),
                               (["export", str(tmp_path), str(tmp_path / "file")], "checkpoint.pth is missing")):
        with pytest.raises(train.Refused, match=message):
            train.main(arguments)


def test_a_full_disk_leaves_the_checkpoint_before(train, data, uncut, tmp_path, monkeypatch):
    train.main(command(data, tmp_path, steps=4, eval_every=0)[2:])
    before = (tmp_path / "checkpoint.pth").read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(train, "save_checkpoint", full)
    monkeypatch.setattr(train, "check_settings", lambda *_: None)
    monkeypatch.setattr(train, "check_end", lambda *_: None)
    with pytest.raises(SystemExit, match="checkpoint.pth cannot be written; is the disk full"):
        train.main(command(data, tmp_path, steps=8, eval_every=0)[2:])
    assert (tmp_path / "checkpoint.pth").read_bytes() == before


def test_other_commands_and_other_launchers_are_refused(train, data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit, match="prepare is the work of one process"):
        train.main(["prepare", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="torchrun has not started this process"):
        train.main(command(data, tmp_path)[2:])


def test_a_run_that_holds_its_peak_has_an_open_end(train, data, tmp_path):
    """Begun with 1,000 steps in mind, ended after 60: the same weights as with that end from the start."""
    run(data, tmp_path / "planned", steps=60, decay_steps=3)
    with subprocess.Popen(command(data, tmp_path / "open", steps=1_000, decay_steps=3, save_every=1), env=ENVIRONMENT,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("step 3 "):
                process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 0
    stopped = torch.load(tmp_path / "open" / "checkpoint.pth", weights_only=True)["progress"]["step"]
    assert stopped <= 57
    run(data, tmp_path / "open", steps=60, decay_steps=3)
    assert same(weights(tmp_path / "planned"), weights(tmp_path / "open"))
    rates = [float(line["lr"]) for line in log(tmp_path / "open")]
    assert rates[3:58] == [1e-3] * 55 and 1e-4 < rates[59] < rates[58] < 1e-3
    shutil.copytree(tmp_path / "open", tmp_path / "falling")
    checkpoint = torch.load(tmp_path / "falling" / "checkpoint.pth", weights_only=True)
    checkpoint["progress"]["step"] = 59
    torch.save(checkpoint, tmp_path / "falling" / "checkpoint.pth")
    with pytest.raises(SystemExit, match="is at step 59, and its learning rate has begun to fall"):
        train.main(command(data, tmp_path / "falling", steps=80, decay_steps=3)[2:])
    # Done, it may go on: up to the peak, and down once more.
    run(data, tmp_path / "open", steps=80, decay_steps=3)
    rates = [float(line["lr"]) for line in log(tmp_path / "open")]
    assert len(rates) == 80 and rates[60:78] == [1e-3] * 18 and 1e-4 < rates[79] < rates[78] < 1e-3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")], ids=str)
def test_out_of_memory_says_what_to_lower(train, data, tmp_path, monkeypatch, error):
    def too_large(*arguments):
        raise error

    monkeypatch.setattr(train, "train_step", too_large)
    with pytest.raises(SystemExit, match="lower --micro-batch"):
        train.main(command(data, tmp_path)[2:])


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_it_computes_the_same(data, without_dropout, tmp_path):
    run(data, tmp_path, drop_rate=0.0, compile=True)
    for one, other in zip(log(without_dropout), log(tmp_path)):
        assert float(other["loss"]) == pytest.approx(float(one["loss"]), abs=1e-4)


def test_first_weights_are_those_of_gpt2(train):
    cfg = train.config_of_run(train.Settings(emb_dim=64, n_layers=8))
    torch.manual_seed(0)
    model = train.start_as_gpt2(train.GPTModel(cfg))
    block = model.trf_blocks[3]
    for parameter, std in ((model.tok_emb.weight, 0.02), (model.pos_emb.weight, 0.02), (block.att.W_key.weight, 0.02),
                           (block.att.out_proj.weight, 0.005), (block.ff.layers[2].weight, 0.005)):  # fmt: skip
        assert parameter.std().item() == pytest.approx(std, rel=0.05)
    assert model.out_head.weight is model.tok_emb.weight and not block.ff.layers[0].bias.any()
    assert (block.norm1.scale == 1).all() and not block.norm1.shift.any()


def test_help_names_every_setting(train, capsys):
    with pytest.raises(SystemExit):
        train.main(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"--{name}" in said for name in SMALL) and "lower it if memory runs out" in said


# Several processes ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which PyTorch for Windows lacks")
@pytest.mark.parametrize("processes, changes", [(2, {}), (4, {}), (4, {"micro_batch": 1}), (2, {"shard": True}),
                                                (4, {"shard": True, "micro_batch": 1})], ids=str)  # fmt: skip
def test_several_processes_compute_what_one_does(data, without_dropout, tmp_path, processes, changes):
    """Six rows a step do not divide by four: the shares are unequal, and the loss is still the mean over all rows."""
    run(data, tmp_path / "many", processes, drop_rate=0.0, **changes)
    for one, many in zip(log(without_dropout), log(tmp_path / "many")):
        assert float(many["loss"]) == pytest.approx(float(one["loss"]), abs=1e-5)
        assert float(many["norm"]) == pytest.approx(float(one["norm"]), abs=2e-3)
        assert (many["step"], many["tokens"], many["lr"]) == (one["step"], one["tokens"], one["lr"])
        if one["held_out"]:
            assert float(many["held_out"]) == pytest.approx(float(one["held_out"]), abs=1e-5)
    torch.testing.assert_close(weights(tmp_path / "many"), weights(without_dropout), atol=1e-4, rtol=0)


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which PyTorch for Windows lacks")
@pytest.mark.parametrize("changes", [{}, {"shard": True}], ids=str)
def test_two_processes_resumed_are_the_same_run(data, tmp_path, changes):
    changes = changes | {"save_every": 1}
    run(data, tmp_path / "uncut", 2, **changes)
    with subprocess.Popen(command(data, tmp_path / "cut", 2, **changes), env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("step 5 "):
                os.kill(process.pid, signal.SIGTERM)
                break
        process.communicate(timeout=HANGS)
    assert torch.load(tmp_path / "cut" / "checkpoint.pth", weights_only=True)["progress"]["step"] >= 4
    run(data, tmp_path / "cut", 2, **changes)
    assert same(weights(tmp_path / "uncut"), weights(tmp_path / "cut"))


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which PyTorch for Windows lacks")
def test_a_killed_process_ends_the_job_with_a_message(data, tmp_path):
    with subprocess.Popen(command(data, tmp_path, 2, steps=10_000_000), env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("step 3 "):
                break
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        os.kill(int(listed.stdout.split()[-1]), signal.SIGKILL)
        _, errors = process.communicate(timeout=HANGS)      # by itself, the run would go on for days
        assert process.returncode != 0
        assert re.search(r"Signal 9 \(SIGKILL\)|exitcode: -9", errors)


# Finished models -----------------------------------------------------------------------------------------


def test_exported_it_is_measured_and_opened_by_transformers(train, data, uncut, tmp_path, capsys):
    """The loss of all held-out rows; in the compact form nearly the same, in a quarter of the space."""
    from transformers import GPT2LMHeadModel

    train.main(["export", str(uncut), str(tmp_path / "whole")])
    train.main(["measure", str(tmp_path / "whole"), str(data)])
    printed = capsys.readouterr().out
    held_out = train.Rows(data, "held_out", 16)
    inputs, targets = held_out.batch(range(len(held_out)))
    with torch.no_grad():
        logits = GPT2LMHeadModel.from_pretrained(tmp_path / "whole").eval()(inputs).logits
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    found = re.search(r"([\d,]+) held-out tokens: loss ([\d.]+), perplexity ([\d.]+)", printed)
    tokens, loss, perplexity = found.groups()
    assert int(tokens.replace(",", "")) == targets.numel()
    assert float(loss) == pytest.approx(want, abs=2e-4) and float(perplexity) == pytest.approx(math.exp(want), rel=1e-3)

    train.main(["export", str(uncut), str(tmp_path / "compact"), "--compact"])
    assert sorted(path.name for path in (tmp_path / "compact").iterdir()) == ["config.json", "model.safetensors"]
    sizes = [(tmp_path / form / "model.safetensors").stat().st_size for form in ("compact", "whole")]
    assert sizes[0] < 0.3 * sizes[1]
    arrays = unpack(load_file(tmp_path / "compact" / "model.safetensors"))
    train.main(["measure", str(tmp_path / "compact"), str(data)])
    compact_loss = float(re.search(r"loss ([\d.]+),", capsys.readouterr().out)[1])
    with (tmp_path / "compact" / "model.safetensors").open("r+b") as file:
        file.truncate(1_000)
    with pytest.raises(SystemExit, match="is not whole, or no safetensors file"):
        train.main(["measure", str(tmp_path / "compact"), str(data)])
    with pytest.raises(SystemExit, match="there is no folder 99M, and no size of GPT-2 of that name"):
        train.main(["measure", "99M", str(data)])
    assert compact_loss == pytest.approx(want, abs=0.02) and compact_loss != float(loss)
    for name, array in load_file(tmp_path / "whole" / "model.safetensors").items():
        assert np.abs(arrays[name] - array).max() <= np.abs(array).max() / 250


def test_only_a_run_can_be_exported_and_only_a_model_measured(train, data, tmp_path):
    with pytest.raises(SystemExit, match="checkpoint.pth is missing"):
        train.main(["export", str(tmp_path), str(tmp_path / "model")])
    with pytest.raises(SystemExit, match="has no config.json.* From a run of train.py, make such a folder"):
        train.main(["measure", str(tmp_path), str(data)])
    with pytest.raises(SystemExit, match="there is no folder 125M, and no size of GPT-2 of that name"):
        train.main(["measure", "125M", str(data)])
