"""Checkpoints of a training run that survive killed processes, and files that do not fit.

Chapter 5 (section 5.4) shows the idea in fifteen lines. This is the form for real runs: a file is whole or not there,
what does not fit is refused before anything has changed, and a run goes on in the middle of a pass with the batches
that it would have had.
"""

import copy
from dataclasses import asdict, dataclass

import torch

from shared.course import whole_file


@dataclass
class Progress:
    """How far a training run is.

    Attributes:
        step: optimizer steps done.
        tokens_seen: tokens used as inputs.
        epoch: whole passes done.
        batch: batches used of the present pass.
        n_batches: batches in a pass.
        shuffled_from: state of the random generators when the present pass was shuffled; None before the first.
    """

    step: int = 0
    tokens_seen: int = 0
    epoch: int = 0
    batch: int = 0
    n_batches: int = 0
    shuffled_from: dict | None = None


# Random numbers -----------------------------------------------------------------------------------------


def random_state():
    """The state of PyTorch's random generators: of the CPU, and of each CUDA device; not of Apple's GPUs."""
    return {"cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}  # fmt: skip


def set_random_state(state):
    """Put the generators back to a state of ``random_state``; CUDA's only on as many devices as it was taken from."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])


def remaining_batches(loader, progress):
    """The batches of the present pass that ``progress`` has not counted yet, in the order of the interrupted run.

    The order of a pass follows from the generators' state when it was shuffled. So that state is put back, the pass is
    shuffled again, the batches that were used are skipped, and then the state in which the run was left is put back.

    Raises:
        ValueError: if the loader cannot be the same: it has another number of batches, or random numbers of its own.
    """
    if getattr(loader, "generator", None) is not None:
        raise ValueError("a loader with a generator of its own cannot be resumed exactly; make it without one")
    if progress.batch and progress.n_batches != len(loader):
        raise ValueError(f"the interrupted run had {progress.n_batches} batches in a pass, and this loader has "
                         f"{len(loader)}; use the same text, context length and batch size")  # fmt: skip
    now, progress.n_batches = random_state(), len(loader)
    if progress.batch:
        set_random_state(progress.shuffled_from)
    else:
        progress.shuffled_from = now
    batches = iter(loader)
    for _ in range(progress.batch):
        next(batches)
    if progress.batch:
        set_random_state(now)
    yield from batches


# The file -----------------------------------------------------------------------------------------------


def check_plain(tree, path):
    """Raise ValueError that names the first entry that ``weights_only=True`` would later refuse to read."""
    if isinstance(tree, (dict, list, tuple)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            check_plain(value, f"{path}.{key}" if path else str(key))
    elif not torch.is_tensor(tree) and type(tree) not in (int, float, bool, str, type(None)):
        raise ValueError(f"{path} is {tree!r}, a {type(tree).__name__}, which a checkpoint cannot hold; convert it "
                         "with int(), float() or str()")  # fmt: skip


def save_checkpoint(path, model, optimizer, cfg, progress):
    """Write everything that a run needs to go on to one file; until that is whole, an older one stays as it is.

    Raises:
        OSError: if it cannot be written, for example because the disk is full.
        ValueError: if it holds a value that could not be read again.
    """
    checkpoint = {
        "optimizer_class": type(optimizer).__name__,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "config": dict(cfg),
        "progress": asdict(progress),
        "random_state": random_state(),
    }
    check_plain(checkpoint, "")
    try:
        with whole_file(path) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:  # RuntimeError: what PyTorch's own writer makes of a full disk
        raise OSError(f"{path} cannot be written; is the disk full? ({error})") from error


def load_checkpoint(path, map_location="cpu"):
    """The contents of a file of ``save_checkpoint`` as a dict, its tensors on ``map_location``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it was cut short, or is no checkpoint of this kind; says which entry is missing.
    """
    with open(path, "rb") as file:
        try:
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:  # of many kinds, depending on where a file was cut
            raise ValueError(f"{path} cannot be read as a checkpoint: it was cut short, or is another kind of file. "
                             "Use an older checkpoint, or train again") from error  # fmt: skip
    wanted = ("model_state_dict", "optimizer_state_dict", "optimizer_class", "config", "progress", "random_state")
    missing = [key for key in wanted if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise ValueError(f"{path} is no checkpoint of save_checkpoint: it has no entry {missing[0]}. A file with "
                         "weights only is read with torch.load and load_state_dict")  # fmt: skip
    return checkpoint


# Does it fit? -------------------------------------------------------------------------------------------


def without_masks(state_dict):
    """A state dict without the attention masks that other programs store; the course's models make their own."""
    return {name: value for name, value in state_dict.items() if name.rpartition(".")[2] != "mask"}


def check_fits(model, state_dict, source):
    """Raise ValueError that names the first entry of ``state_dict`` that the model does not have in this shape.

    PyTorch's own message lists every entry, which can be hundreds.
    """
    own, given = model.state_dict(), without_masks(state_dict)
    for name, value in own.items():
        if name not in given:
            raise ValueError(f"{source} does not fit the model: it has no {name}")
        if given[name].shape != value.shape:
            raise ValueError(f"{source} does not fit the model: {name} has shape {tuple(given[name].shape)} there and "
                             f"{tuple(value.shape)} in the model")  # fmt: skip
    for name in given:
        if name not in own:
            raise ValueError(f"{source} does not fit the model: the model has no {name}")


def check_fits_optimizer(optimizer, checkpoint):
    """Raise ValueError unless the checkpoint's optimizer state is for an optimizer like this one."""
    saved, name = checkpoint["optimizer_state_dict"], type(optimizer).__name__
    if name != checkpoint["optimizer_class"]:
        raise ValueError(f"the checkpoint was made with {checkpoint['optimizer_class']}, and this optimizer is {name}")
    groups = [len(group["params"]) for group in saved["param_groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if groups != own:
        raise ValueError(f"the checkpoint's optimizer had parameter groups of {groups}, and this one has {own}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, state in saved["state"].items():
        for key, value in state.items():
            if torch.is_tensor(value) and value.ndim and value.shape != parameters[number].shape:
                raise ValueError(f"{key} of parameter {number} has shape {tuple(value.shape)} in the checkpoint, and "
                                 f"the parameter has {tuple(parameters[number].shape)}")  # fmt: skip


def restore_checkpoint(checkpoint, model, optimizer=None):
    """Put a checkpoint's weights, optimizer state and random numbers in force; returns its Progress.

    Args:
        checkpoint: from ``load_checkpoint``.
        model: of the checkpoint's config, on its device already: the optimizer's state follows the parameters.
        optimizer: made for this model, of the class that was saved; None if training is not to go on.

    Raises:
        ValueError: if they do not fit; nothing has been changed then.
    """
    check_fits(model, checkpoint["model_state_dict"], "the checkpoint")
    cfg, tied = checkpoint["config"], model.out_head.weight is model.tok_emb.weight
    # Two differences that no shape shows: 4 heads and 12 heads have weights of the same shapes, and if the model shares
    # one matrix where the file has two, the second would overwrite the first.
    for name, there, here in (("n_heads", cfg["n_heads"], model.trf_blocks[0].att.num_heads),
                              ("tie_weights", cfg.get("tie_weights", False), tied)):  # fmt: skip
        if there != here:
            raise ValueError(f"the checkpoint does not fit the model: {name} is {there} there and {here} here")
    progress = Progress(**checkpoint["progress"])
    if optimizer is not None:
        check_fits_optimizer(optimizer, checkpoint)
        # A copy: the optimizer would otherwise go on in the checkpoint's own tensors.
        optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer_state_dict"]))
    model.load_state_dict(without_masks(checkpoint["model_state_dict"]))
    set_random_state(checkpoint["random_state"])
    return progress
