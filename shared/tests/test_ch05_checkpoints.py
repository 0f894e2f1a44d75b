"""Chapter 5's checkpoints: exact resume at every step, files that do not fit, and processes that are killed."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from shared import checkpoints
from shared.checkpoints import random_state, without_masks
from shared.course import ROOT
from shared.tests.limits import HANGS

CFG = {"vocab_size": 30, "context_length": 8, "emb_dim": 16, "n_heads": 4, "n_layers": 2, "drop_rate": 0.2}
CFG |= {"qkv_bias": False}


def new_run(ch05, seed, **changes):
    """Model, optimizer and shuffled loader of 5 batches."""
    torch.manual_seed(seed)
    model = ch05.GPTModel(CFG | changes)
    ids = torch.randint(0, 30, (10, 9), generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(ids[:, :-1], ids[:, 1:])
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2), torch.utils.data.DataLoader(data, 2, shuffle=True)


class Stop(Exception):
    pass


def uncut_weights(ch05, epochs=3, **changes):
    model, optimizer, loader = new_run(ch05, 5, **changes)
    ch05.train_resumable(model, loader, optimizer, "cpu", epochs, checkpoints.Progress())
    return model.state_dict()


def cut_run(ch05, path, saved_at, cut_at, **changes):
    """Train, save after one step, and stop after a later one."""
    model, optimizer, loader = new_run(ch05, 5, **changes)
    progress = checkpoints.Progress()

    def after_step():
        if progress.step == saved_at:
            checkpoints.save_checkpoint(path, model, optimizer, CFG | changes, progress)
        if progress.step == cut_at:
            raise Stop

    with pytest.raises(Stop):
        ch05.train_resumable(model, loader, optimizer, "cpu", 3, progress, after_step)


def resumed(ch05, path, epochs=3, **changes):
    model, optimizer, loader = new_run(ch05, 99, **changes)
    torch.rand(17)
    progress = checkpoints.restore_checkpoint(checkpoints.load_checkpoint(path), model, optimizer)
    ch05.train_resumable(model, loader, optimizer, "cpu", epochs, progress)
    return model, progress


def same_weights(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


@pytest.fixture(scope="module")
def uncut(ch05):
    return uncut_weights(ch05)


@pytest.mark.parametrize("saved_at", range(1, 15))
def test_resuming_at_any_step_gives_the_same_weights(ch05, tmp_path, uncut, saved_at):
    cut_run(ch05, tmp_path / "run.pth", saved_at, min(saved_at + 1, 15))
    model, progress = resumed(ch05, tmp_path / "run.pth")
    assert same_weights(uncut, model.state_dict())
    assert (progress.step, progress.epoch, progress.batch, progress.tokens_seen) == (15, 3, 0, 15 * 16)


def test_tied_weights_stay_tied_through_a_resume(ch05, tmp_path):
    cut_run(ch05, tmp_path / "run.pth", 7, 8, tie_weights=True)
    model, _ = resumed(ch05, tmp_path / "run.pth", tie_weights=True)
    assert model.out_head.weight is model.tok_emb.weight
    assert same_weights(uncut_weights(ch05, tie_weights=True), model.state_dict())


def test_the_optimizer_and_the_random_numbers_matter(ch05, tmp_path):
    """Leaving out either gives other weights: so the tests above can fail."""
    cut_run(ch05, tmp_path / "run.pth", 7, 8)
    want = uncut_weights(ch05)
    for left_out in ("optimizer", "random_state", "shuffled_from"):
        checkpoint = checkpoints.load_checkpoint(tmp_path / "run.pth")
        model, optimizer, loader = new_run(ch05, 99)
        if left_out == "random_state":
            checkpoint["random_state"] = random_state()
        elif left_out == "shuffled_from":
            checkpoint["progress"]["shuffled_from"] = random_state()
        progress = checkpoints.restore_checkpoint(checkpoint, model, None if left_out == "optimizer" else optimizer)
        ch05.train_resumable(model, loader, optimizer, "cpu", 3, progress)
        assert not same_weights(want, model.state_dict())


def test_the_learning_rate_is_that_of_the_checkpoint(ch05, tmp_path):
    cut_run(ch05, tmp_path / "run.pth", 3, 4)
    model, _, _ = new_run(ch05, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    checkpoints.restore_checkpoint(checkpoints.load_checkpoint(tmp_path / "run.pth"), model, optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-2


# Files that do not fit -----------------------------------------------------------------------------------


@pytest.fixture
def saved(ch05, tmp_path):
    cut_run(ch05, tmp_path / "run.pth", 3, 4)
    return tmp_path / "run.pth"


def test_a_file_cut_anywhere_is_refused(ch05, saved):
    whole = saved.read_bytes()
    for share in (0, 0.001, 0.2, 0.5, 0.9, 0.999):
        saved.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match="run.pth cannot be read as a checkpoint: it was cut short"):
            checkpoints.load_checkpoint(saved)


def test_other_kinds_of_files_are_refused(ch05, tmp_path):
    path = tmp_path / "other.pth"
    path.write_text("no checkpoint", encoding="utf-8")
    with pytest.raises(ValueError, match="another kind of file"):
        checkpoints.load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "no checkpoint")
    with pytest.raises(ValueError, match="another kind of file"):
        checkpoints.load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        checkpoints.load_checkpoint(tmp_path / "none.pth")
    for content, missing in ((ch05.GPTModel(CFG).state_dict(), "model_state_dict"), ([1, 2], "model_state_dict"),
                             ({"model_state_dict": {}, "optimizer_state_dict": {}}, "optimizer_class")):  # fmt: skip
        torch.save(content, path)
        with pytest.raises(ValueError, match=f"it has no entry {missing}"):
            checkpoints.load_checkpoint(path)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_code_in_a_file_is_not_run(ch05, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": Harmful()}, "bad.pth")
    with pytest.raises(ValueError, match="bad.pth cannot be read"):
        checkpoints.load_checkpoint("bad.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"emb_dim": 32}, r"tok_emb.weight has shape \(30, 16\) there and \(30, 32\) in the model"),
        ({"n_layers": 3}, "it has no trf_blocks.2.att.W_query.weight"),
        ({"n_layers": 1}, "the model has no trf_blocks.1.att.W_query.weight"),
        ({"qkv_bias": True}, "it has no trf_blocks.0.att.W_query.bias"),
        ({"n_heads": 2}, "n_heads is 4 there and 2 here"),
        ({"tie_weights": True}, "tie_weights is False there and True here"),
    ],
    ids=str,
)
def test_another_model_is_refused_with_the_first_key(ch05, saved, changes, message):
    model, optimizer, _ = new_run(ch05, 1, **changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        checkpoints.restore_checkpoint(checkpoints.load_checkpoint(saved), model, optimizer)
    assert same_weights(before, model.state_dict()) and torch.equal(state, torch.get_rng_state())
    assert not optimizer.state


def other_optimizers(model):
    parameters = list(model.parameters())
    yield torch.optim.SGD(parameters, lr=1e-2), "made with AdamW, and this optimizer is SGD"
    yield torch.optim.AdamW(parameters[:3]), r"parameter groups of \[\d+\], and this one has \[3\]"
    yield torch.optim.AdamW(reversed(parameters)), r"exp_avg of parameter \d+ has shape"


def test_another_optimizer_is_refused_and_nothing_is_changed(ch05, saved):
    model, _, _ = new_run(ch05, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for optimizer, message in other_optimizers(model):
        with pytest.raises(ValueError, match=message):
            checkpoints.restore_checkpoint(checkpoints.load_checkpoint(saved), model, optimizer)
        assert same_weights(before, model.state_dict()) and not optimizer.state


def test_a_checkpoint_can_be_restored_twice(ch05, saved):
    checkpoint, runs = checkpoints.load_checkpoint(saved), []
    for _ in range(2):
        model, optimizer, loader = new_run(ch05, 99)
        progress = checkpoints.restore_checkpoint(checkpoint, model, optimizer)
        ch05.train_resumable(model, loader, optimizer, "cpu", 2, progress)
        runs.append(model.state_dict())
    assert same_weights(*runs)


def test_another_loader_cannot_go_on_in_the_middle_of_a_pass(ch05, saved):
    model, optimizer, loader = new_run(ch05, 1)
    progress = checkpoints.restore_checkpoint(checkpoints.load_checkpoint(saved), model, optimizer)
    larger = torch.utils.data.DataLoader(loader.dataset, 5, shuffle=True)
    with pytest.raises(ValueError, match="had 5 batches in a pass, and this loader has 2"):
        ch05.train_resumable(model, larger, optimizer, "cpu", 3, progress)
    own = torch.utils.data.DataLoader(loader.dataset, 2, shuffle=True, generator=torch.Generator())
    with pytest.raises(ValueError, match="generator of its own"):
        ch05.train_resumable(model, own, optimizer, "cpu", 3, progress)


@pytest.mark.parametrize("value", [np.float64(1e-3), np.int64(3), Path("x")], ids=str)
def test_what_could_not_be_read_again_is_not_saved(ch05, saved, value):
    old = saved.read_bytes()
    model, optimizer, _ = new_run(ch05, 1)
    with pytest.raises(ValueError, match=f"config.extra is .*, a {type(value).__name__}, which a checkpoint cannot"):
        checkpoints.save_checkpoint(saved, model, optimizer, CFG | {"extra": value}, checkpoints.Progress())
    optimizer.param_groups[0]["lr"] = np.float64(1e-3)
    with pytest.raises(ValueError, match=r"optimizer_state_dict.param_groups.0.lr is"):
        checkpoints.save_checkpoint(saved, model, optimizer, CFG, checkpoints.Progress())
    assert saved.read_bytes() == old


def test_masks_of_older_files_do_not_matter(ch05, saved):
    checkpoint = checkpoints.load_checkpoint(saved)
    checkpoint["model_state_dict"]["trf_blocks.0.att.mask"] = torch.zeros(3, 3)
    model, optimizer, _ = new_run(ch05, 1)
    assert checkpoints.restore_checkpoint(checkpoint, model, optimizer).step == 3
    assert same_weights(without_masks(checkpoint["model_state_dict"]), model.state_dict())


def test_a_save_that_fails_leaves_the_old_file(ch05, saved, monkeypatch):
    old = saved.read_bytes()
    model, optimizer, _ = new_run(ch05, 1)

    def full(obj, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save_checkpoint(saved, model, optimizer, CFG, checkpoints.Progress())
    assert saved.read_bytes() == old and not list(saved.parent.glob("*.part"))


def test_a_full_disk_leaves_the_old_file(ch05, saved):
    """PyTorch's writer reports it as a RuntimeError of its own kind."""
    resource = pytest.importorskip("resource")
    old = saved.read_bytes()
    model, optimizer, _ = new_run(ch05, 1)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limits[1]))
    try:
        with pytest.raises(OSError, match="run.pth cannot be written; is the disk full"):
            checkpoints.save_checkpoint(saved, model, optimizer, CFG, checkpoints.Progress())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == old and os.listdir(saved.parent) == ["run.pth"]


# Killed processes ----------------------------------------------------------------------------------------

# One process imports PyTorch; each child that it forks goes on from the last checkpoint, saves after every step, and
# kills itself at a place in the code: at the n-th time it comes there, so that nothing depends on the machine's speed.
# The last one reaches the end.
KILLER = """
import glob, io, os, signal, sys
sys.path.insert(0, {root!r})
import torch
from shared import checkpoints
from shared.carry import load_chapter
from shared.tests.test_ch05_checkpoints import CFG, PLACES, new_run
ch05 = load_chapter("ch05_pretraining")
path, kills, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

torch.set_num_threads(1)     # no pool of threads, which a fork would not survive
model, optimizer, loader = new_run(ch05, 5)
ch05.train_resumable(model, loader, optimizer, "cpu", 1, checkpoints.Progress())     # what is imported late is now
save_whole, replace = torch.save, os.replace

def child(place, times):
    left = [times]

    def at(here):
        left[0] -= here == place
        return here == place and left[0] == 0

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def save(checkpoint, file):
        whole = io.BytesIO()
        save_whole(checkpoint, whole)
        if at("half written"):
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()
        file.write(whole.getvalue())

    def rename(*names):
        if at("written, not renamed"):
            die()
        replace(*names)
        if at("renamed"):
            die()

    torch.save, os.replace = save, rename
    model, optimizer, loader = new_run(ch05, 5)
    progress = checkpoints.Progress()
    if os.path.exists(path):
        progress = checkpoints.restore_checkpoint(checkpoints.load_checkpoint(path), model, optimizer)

    def after_step():
        if at("a step done, not saved"):
            die()
        checkpoints.save_checkpoint(path, model, optimizer, CFG, progress)

    ch05.train_resumable(model, loader, optimizer, "cpu", epochs, progress, after_step)
    return 0

last = 0
for attempt in range(kills + 1):
    place = PLACES[attempt % len(PLACES)] if attempt < kills else None
    pid = os.fork()
    if pid == 0:
        os._exit(child(place, 1 + attempt % 3))
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) if place else status == 0, (place, status)
    part = f"{{path}}.{{pid}}.part"
    assert os.path.exists(part) == (place in ("half written", "written, not renamed")), place
    step = checkpoints.load_checkpoint(path)["progress"]["step"] if os.path.exists(path) else 0
    assert step >= last, (place, step, last)
    print(place, step - last)
    last = step
assert not glob.glob(path + ".*.part"), "what a killed process left is still there"
print("end", last)
"""
PLACES = ("a step done, not saved", "half written", "written, not renamed", "renamed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows does not have")
def test_killed_twenty_times_the_run_ends_as_if_nothing_had_happened(ch05, tmp_path):
    epochs = 12
    command = [sys.executable, "-c", KILLER.format(root=str(ROOT)), str(tmp_path / "run.pth"), "20", str(epochs)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert run.returncode == 0, run.stderr
    *kills, _, end = [line.rpartition(" ")[::2] for line in run.stdout.splitlines()]
    assert end == ("end", str(5 * epochs)) and len(kills) == 20
    # A step is saved for good at the rename, and only then: killed at the n-th time, n or n - 1 steps are kept.
    for attempt, (place, steps) in enumerate(kills):
        assert int(steps) == 1 + attempt % 3 - (place != "renamed"), (attempt, place)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)        # as in the children: sums in the same order
    try:
        want = uncut_weights(ch05, epochs)
    finally:
        torch.set_num_threads(threads)
    assert same_weights(want, checkpoints.load_checkpoint(tmp_path / "run.pth")["model_state_dict"])
