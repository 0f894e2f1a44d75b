"""Pretrains the course's GPT model on many texts: on one processor or GPU, or on several with torchrun.

    python3 appendix_d_training_loop/train.py prepare FOLDER_WITH_TEXTS DATA --held-out 5
    python3 appendix_d_training_loop/train.py prepare FOLDER_WITH_ONE_TEXT DATA --held-out 0.1
    python3 appendix_d_training_loop/train.py run DATA OUT --steps 2000
    torchrun --nproc-per-node 2 appendix_d_training_loop/train.py run DATA OUT --steps 2000

    python3 appendix_d_training_loop/train.py export OUT FOLDER
    python3 appendix_d_training_loop/train.py measure FOLDER DATA

`prepare` tokenises all .txt files of a folder once, and holds back some of them, or a share of each. `run` trains, and
goes on where it was if OUT holds a checkpoint. Stopped with Ctrl-C or SIGTERM, it saves a checkpoint first; torchrun
waits 30 seconds for that, or as long as its option --shutdown-timeout says. OUT/log.csv has a line per logged step.
`export` writes a run's model as a GPT-2 of transformers, `measure` computes the loss of such a model on the held-out
texts.
"""

import argparse
import contextlib
import csv
import dataclasses
import errno
import functools
import hashlib
import io
import json
import math
import os
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

import filelock  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: E402

from appendix_d_training_loop.previous_chapters import (  # noqa: E402
    GPTModel,
    config_of,
    download_and_load_gpt2,
    eval_mode,
    export_gpt2,
    generate,
    get_device,
    load_weights_into_gpt,
    read_gpt2,
    text_to_token_ids,
    token_ids_to_text,
)
from shared import gpt2_files, guards  # noqa: E402
from shared.carry import load_chapter  # noqa: E402
from shared.checkpoints import Progress, load_checkpoint, restore_checkpoint, save_checkpoint  # noqa: E402
from shared.course import count_of, print_any_character, write_file  # noqa: E402
from shared.token_files import read_chunks, write_token_file  # noqa: E402

appendix = load_chapter("appendix_d_training_loop")  # schedule, clipping, weight decay and loss of the notebook
VOCAB_SIZE, END_OF_TEXT = 50_257, "<|endoftext|>"
SHARD_BYTES = 200_000_000  # a new file begins with the first text after that
LONGEST_WARMUP = 100  # steps, unless another number is asked for


def setting(default, words):
    """A field of Settings: its default, and what --help says."""
    return field(default=default, metadata={"help": words})


@dataclass
class Settings:
    """Everything that decides what a run computes; written to OUT/settings.json, and compared when a run goes on."""

    steps: int = setting(1_000, "optimizer steps in all")
    emb_dim: int = setting(256, "width of the model")
    n_layers: int = setting(8, "transformer blocks")
    n_heads: int = setting(4, "attention heads per block")
    context_length: int = setting(256, "tokens in a row")
    drop_rate: float = setting(0.0, "dropout; 0 is usual when each text is read once or twice")
    global_batch: int = setting(8, "rows per optimizer step, over all processes and pieces")
    micro_batch: int = setting(8, "rows that one process computes at a time; lower it if memory runs out")
    lr: float = setting(1e-3, "peak of the learning rate")
    warmup_steps: int = setting(None, f"steps until the peak (default: a tenth of --steps, at most {LONGEST_WARMUP})")
    min_lr: float = setting(1e-4, "learning rate at the end")
    decay_steps: int = setting(0, "hold the peak, and let the learning rate fall only in the last so many steps; then "
                                  "--steps may be changed until the fall begins, and when it is over. 0: it falls "
                                  "after the warmup")
    weight_decay: float = setting(0.1, "for matrices; vectors are not decayed")
    max_norm: float = setting(1.0, "limit of the gradient's norm")
    seed: int = setting(123, "for the first weights, the order of the rows, and dropout")
    bf16: bool = setting(False, "compute matrix products in bfloat16")
    compile: bool = setting(False, "compile the transformer with torch.compile; needs a C++ compiler")
    shard: bool = setting(False, "with torchrun: share weights and optimizer state out among the processes (FSDP)")
    eval_every: int = setting(200, "steps between measurements on the held-out texts; 0: never")
    eval_rows: int = setting(200, "rows of the held-out texts per measurement")
    save_every: int = setting(200, "steps between checkpoints")
    log_every: int = setting(10, "steps between lines of the log")
    prompt: str = setting("The old house", "start of the sample that is written with each measurement")


FREE_TO_CHANGE = {"micro_batch", "bf16", "compile", "shard", "eval_every", "eval_rows", "save_every", "log_every",
                  "prompt"}  # fmt: skip


class Refused(SystemExit):
    """The run cannot begin or go on; the message says why and what to do."""

    def __init__(self, words):
        super().__init__(f"train.py: {words}")


def read_json(path):
    """The dict in a JSON file; Refused if it is none."""
    try:
        facts = guards.json_of(path)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error})") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    if not isinstance(facts, dict):
        raise Refused(f"{path} should hold names and values, and holds a {type(facts).__name__}")
    return facts


# Data ---------------------------------------------------------------------------------------------------


def prepare(texts, data, held_out):
    """Tokenise the .txt files of a folder into DATA/train_*.bin and DATA/held_out_*.bin.

    Args:
        held_out: 1 or more: so many documents are held out whole, every ``len(files) / held_out``-th in the order of
            their names. Below 1: the last so large share of each document. 0: nothing.

    A document ends with <|endoftext|>, and so does the first part of one that is divided.
    """
    from shared.assets import use_offline_vocabulary

    use_offline_vocabulary()
    import tiktoken

    tokenizer = tiktoken.get_encoding("gpt2")
    files = texts_of(texts)
    if held_out >= len(files):
        raise Refused(f"{texts} has {count_of(len(files), '.txt file')}, so {held_out:g} cannot be held out; use a "
                      "smaller --held-out, or a share of each text, such as --held-out 0.1")
    chosen = set()
    if held_out >= 1:
        chosen = {files[math.floor((number + 0.5) * len(files) / held_out)] for number in range(int(held_out))}
    share = held_out if held_out < 1 else 0
    data.mkdir(parents=True, exist_ok=True)
    facts = {"vocab_size": VOCAB_SIZE, "shards": {}, "checksums": {}, "held_out": sorted(path.name for path in chosen),
             "held_out_share": share}
    borders = {path: math.floor((1 - share) * sum(map(len, read_chunks(path)))) for path in files} if share else {}
    parts = {"train": [path for path in files if path not in chosen], "held_out": files if share else sorted(chosen)}
    for part, paths in parts.items():
        for number, group in enumerate(groups_of(paths)):
            name = f"{part}_{number:03d}.bin"
            pieces = (piece for path in group for piece in chain(part_of_text(path, part, borders.get(path)),
                                                                 [END_OF_TEXT]))  # fmt: skip
            facts["shards"][name] = write_token_file(pieces, data / name, tokenizer)
            with open(data / name, "rb") as file:
                facts["checksums"][name] = hashlib.file_digest(file, "sha256").hexdigest()
            print(f"{name}: {count_of(len(group), 'text')}, {facts['shards'][name]:,} tokens")
    write_file(data / "data.json", json.dumps(facts, indent=2).encode())


def texts_of(folder):
    """The .txt files of a folder, in the order of their names; Refused, saying what there is, if it has none."""
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder")
    files = sorted(folder.glob("*.txt"))
    if not files:
        kinds = Counter("folders" if path.is_dir() else path.suffix or "without ending" for path in folder.iterdir())
        found = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common(5)) or "nothing"
        raise Refused(f"{folder} has no .txt files; it has: {found}. Texts must be .txt files, UTF-8, in the folder "
                      "itself")
    return files


def groups_of(paths):
    """Lists of paths for a token file each: a new one begins with the first text after SHARD_BYTES."""
    group, size = [], 0
    for path in paths:
        if size > SHARD_BYTES:
            yield group
            group, size = [], 0
        group.append(path)
        size += path.stat().st_size
    if group:
        yield group


def part_of_text(path, part, border):
    """The text of a file in chunks: all of it, or with a border its beginning up to there ("train") or the rest."""
    if border is None:
        yield from read_chunks(path)
        return
    place = 0
    for chunk in read_chunks(path):
        cut = min(max(border - place, 0), len(chunk))
        place += len(chunk)
        wanted = chunk[:cut] if part == "train" else chunk[cut:]
        if wanted:
            yield wanted


class Rows:
    """The rows of L + 1 tokens of one part of the data, mapped from its files; row i begins where row i - 1 ended.

    The files are mapped anew for each batch: a map that is kept holds on to every page it has shown, and would grow
    to the size of the file.

    Raises Refused if a file is missing or has another length than it should, or has ids of another vocabulary.
    """

    def __init__(self, data, part, length):
        path = data / "data.json"
        if not path.is_file():
            raise Refused(f"{path} is missing; make it with: train.py prepare FOLDER_WITH_TEXTS {data}")
        facts = read_json(path)
        shards = facts.get("shards")
        if not isinstance(shards, dict) or not all(type(n) is int and n > 0 for n in shards.values()):
            raise Refused(f"{path} does not say how many tokens its files have; prepare the data again")
        if facts.get("vocab_size") != VOCAB_SIZE:
            raise Refused(f"{data} was tokenised with {facts.get('vocab_size')} ids, the model has {VOCAB_SIZE}")
        self.length, self.shards, counts, self.checksums = length, [], [], facts.get("checksums")
        for name, n_tokens in shards.items():
            if name.startswith(part):
                if not (data / name).is_file() or (data / name).stat().st_size != 2 * n_tokens:
                    raise Refused(f"{data / name} should hold {n_tokens:,} tokens, and does not; prepare it again")
                self.shards.append(data / name)
                counts.append((n_tokens - 1) // length)
                if self.largest_of_some(data / name, n_tokens) >= VOCAB_SIZE:
                    raise Refused(f"{data / name} has ids beyond {VOCAB_SIZE - 1}: it is of another vocabulary")
        self.first = np.cumsum([0, *counts])

    def __len__(self):
        return int(self.first[-1])

    @staticmethod
    def largest_of_some(path, n_tokens):
        """The largest id in a thousand places of a file; read and not mapped, as a map would bring in all of it."""
        with open(path, "rb") as file:
            largest = 0
            for place in range(0, n_tokens, max(1, n_tokens // 1_000)):
                file.seek(2 * place)
                largest = max(largest, np.frombuffer(file.read(200), dtype="<u2").max())
        return largest

    def tokens(self, shard):
        """The ids of a file, mapped."""
        return np.memmap(self.shards[shard], dtype="<u2", mode="r")

    def batch(self, numbers):
        """Inputs and targets (n, L) of the rows with these numbers, as int64 tensors."""
        rows = np.empty((len(numbers), self.length + 1), dtype=np.int64)
        for place, number in enumerate(numbers):
            shard = int(np.searchsorted(self.first, number, side="right")) - 1
            start = (number - self.first[shard]) * self.length
            rows[place] = self.tokens(shard)[start : start + self.length + 1]
        rows = torch.from_numpy(rows)
        return rows[:, :-1], rows[:, 1:]


@functools.lru_cache(maxsize=1)
def order_of_pass(number, n_rows, seed):
    """The rows in the order of a pass, a permutation of range(n_rows)."""
    return np.random.default_rng([seed, number]).permutation(n_rows)


def rows_of_step(step, n_rows, global_batch, seed):
    """Numbers of the rows of one step: each pass has an order of its own, and uses every row once."""
    per_pass = math.ceil(n_rows / global_batch)
    order = order_of_pass(step // per_pass, n_rows, seed)
    place = step % per_pass * global_batch
    return order[place : place + global_batch]


# Processes ----------------------------------------------------------------------------------------------


@dataclass
class Team:
    """The processes of a run: this one's number, how many there are, and its device."""

    rank: int
    size: int
    device: torch.device

    def sum(self, *numbers):
        """The sums of numbers over all processes."""
        if self.size == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def spread(self, loss, shard):
        """The module for all processes: with copies of the weights (DDP), or with the weights shared out (FSDP)."""
        if self.size == 1:
            return loss
        if not shard:
            return nn.parallel.DistributedDataParallel(loss, broadcast_buffers=False)    # the masks never change
        mesh = dist.init_device_mesh(self.device.type, (self.size,))
        for block in loss.model.trf_blocks:
            fully_shard(block, mesh=mesh)
        return fully_shard(loss, mesh=mesh)

    @contextlib.contextmanager
    def gradients_exchanged(self, loss, now):
        """In this context a backward pass ends with the gradients of all processes, or keeps its own for later."""
        if hasattr(loss, "set_requires_gradient_sync"):
            loss.set_requires_gradient_sync(now)
            yield
        else:
            with contextlib.nullcontext() if now or self.size == 1 else loss.no_sync():
                yield


@contextlib.contextmanager
def team():
    """The team that torchrun has started, or a team of one."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield Team(0, 1, get_device())
        return
    if "LOCAL_RANK" not in os.environ:
        raise Refused(f"WORLD_SIZE is {size}, but torchrun has not started this process; start it with torchrun, or "
                      "unset WORLD_SIZE")
    local = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    if cuda and local >= torch.cuda.device_count():
        raise Refused(f"{local + 1} processes on a machine with {torch.cuda.device_count()} GPUs; start fewer")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Team(dist.get_rank(), size, device)
    except BaseException as error:
        # At once: the end of the process group would wait for the others, and they for this process.
        if isinstance(error, Refused):
            print(error, file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        os._exit(1)
    dist.barrier()      # nobody leaves while another still needs it
    dist.destroy_process_group()
    # Threads of gloo that FSDP has used now and then abort Python's own way out, after all is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


# Training -----------------------------------------------------------------------------------------------


def facts_of_run(settings, rows):
    """What is written to settings.json: the settings, and which data they are for."""
    return {**dataclasses.asdict(settings), "rows": len(rows), "checksums": rows.checksums}


def with_warmup(settings, out):
    """The settings with a warmup that fits the run, if none was asked for: that of the run in OUT, or a new one."""
    if settings.warmup_steps is not None:
        return settings
    begun = read_json(out / "settings.json").get("warmup_steps") if (out / "checkpoint.pth").exists() else None
    fitting = min(LONGEST_WARMUP, settings.steps // 10)
    return dataclasses.replace(settings, warmup_steps=fitting if begun is None else begun)


@contextlib.contextmanager
def only_run(out, crew):
    """Refuse to begin while another run writes into OUT. The system ends the lock with the process that has it.

    On a file system without locks nothing is refused.
    """
    if crew.rank:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / "run.lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=2)
    except filelock.Timeout as error:
        raise Refused(f"another run is writing into {out}; wait for its end, or use another folder") from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    try:
        yield
    finally:
        lock.release()


def check_ranges(settings):
    """Refuse values that make no sense by themselves."""
    for least, names in ((1, ("steps", "context_length", "global_batch", "micro_batch", "eval_rows", "save_every",
                              "log_every")), (0, ("warmup_steps", "decay_steps", "eval_every", "seed"))):
        for name in names:
            if getattr(settings, name) < least:
                raise Refused(f"--{name.replace('_', '-')} must be at least {least}; it is {getattr(settings, name)}")
    if settings.seed >= 2**63:
        raise Refused(f"--seed must be below 2**63; it is {settings.seed}")
    if not 0 <= settings.min_lr <= settings.lr < math.inf:
        raise Refused(f"--min-lr {settings.min_lr} must lie between 0 and --lr {settings.lr}")
    if not (0 <= settings.weight_decay < math.inf and settings.max_norm > 0):
        raise Refused(f"--weight-decay must be at least 0 and --max-norm above 0; they are {settings.weight_decay} and "
                      f"{settings.max_norm}")
    if settings.warmup_steps + settings.decay_steps >= settings.steps:
        raise Refused(f"--warmup-steps {settings.warmup_steps} and --decay-steps {settings.decay_steps} together must "
                      f"be below --steps {settings.steps}")


def check_settings(settings, rows, held_out, crew, out):
    """Refuse what does not go together with the data, the processes, or the run that OUT holds."""
    if settings.global_batch < crew.size:
        raise Refused(f"--global-batch {settings.global_batch} leaves some of {crew.size} processes without a row; "
                      "raise it, or start fewer processes")
    if len(rows) < settings.global_batch:
        raise Refused(f"the data have {len(rows)} rows of {settings.context_length} tokens, fewer than --global-batch "
                      f"{settings.global_batch}; prepare more text, or lower it or --context-length")
    if settings.eval_every and not held_out.shards:
        raise Refused("the data have no held-out texts; prepare them with --held-out, or use --eval-every 0")
    if settings.eval_every and not len(held_out):
        raise Refused("the held-out texts are shorter than one row; hold out more, or use --eval-every 0")
    if (out / "checkpoint.pth").exists():       # without one, nothing is lost if another run begins here
        old = read_json(out / "settings.json")
        for name, value in facts_of_run(settings, rows).items():
            # A run that holds its peak has no end yet; check_end looks at whether its fall has begun.
            open_end = settings.decay_steps and old.get("decay_steps") and name in ("steps", "decay_steps")
            if name in old and name not in FREE_TO_CHANGE and not open_end and old[name] != value:
                if name == "checksums":
                    raise Refused(f"{out} was begun with other data; use those, or another folder")
                raise Refused(f"{out} was begun with {name} {old[name]}, and is to go on with {value}; use the old "
                              "value, or another folder")


class SummedLoss(nn.Module):
    """A GPTModel as what a training step needs: inputs and targets (B, T) -> sum of the losses.

    DDP and FSDP do their work around a module's forward, so all that uses the weights must happen in it.
    """

    def __init__(self, model, compile):
        super().__init__()
        self.model = model
        self.features = torch.compile(model.features) if compile else model.features

    def forward(self, inputs, targets):
        return appendix.summed_loss(self.features(inputs), self.model.out_head.weight, targets)


def my_pieces(numbers, settings, crew):
    """This process's rows of ``numbers``, in pieces of micro_batch: (rows, share of numbers, whether it is the last).

    All processes get the same number of pieces. One whose rows are used up computes one more with share 0, because
    the others wait for it at the end.
    """
    mine = numbers[crew.rank :: crew.size]
    n_pieces = math.ceil(math.ceil(len(numbers) / crew.size) / settings.micro_batch)
    for piece in range(n_pieces):
        part = mine[piece * settings.micro_batch : (piece + 1) * settings.micro_batch]
        yield (part if len(part) else numbers[:1]), len(part) / len(numbers), piece == n_pieces - 1


def mean_loss(loss, rows, part, settings, crew):
    """Mean loss of the rows ``part`` under a SummedLoss."""
    inputs, targets = rows.batch(part)
    with torch.autocast(crew.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
        return loss(inputs.to(crew.device), targets.to(crew.device)) / targets.numel()


def check_end(settings, out, step):
    """Refuse another end for a run whose learning rate has begun to fall, or would already have.

    A run that is done may get a later end: its learning rate then goes back to the peak, and falls once more.
    """
    old = read_json(out / "settings.json")
    given = dataclasses.asdict(settings)
    end, fall, old_end, old_fall = (facts.get(name, 0) for facts in (given, old) for name in ("steps", "decay_steps"))
    if (end, fall) == (old_end, old_fall):
        return
    if step > old_end - old_fall and not (step == old_end and old_fall and fall):
        raise Refused(f"{out} is at step {step}, and its learning rate has begun to fall; go on with --steps {old_end} "
                      f"--decay-steps {old_fall}, or begin in another folder. A run that is done may get a later end")
    if step > end - fall:
        raise Refused(f"{out} is at step {step}; with --steps {end} --decay-steps {fall} its learning rate would have "
                      "begun to fall before that. Choose a later end")


def lr_of_step(step, settings):
    """Learning rate of a step: warmup, the peak if it is to be held, and half a cosine wave down."""
    if not settings.decay_steps or step < settings.warmup_steps:
        return appendix.lr_at_step(step, settings.steps, settings.warmup_steps, 0.0, settings.lr, settings.min_lr)
    falling = max(0, step - (settings.steps - settings.decay_steps))
    return appendix.lr_at_step(falling, settings.decay_steps, 0, 0.0, settings.lr, settings.min_lr)


def held_out_loss(loss, held_out, settings, crew):
    """Mean loss over ``eval_rows`` rows, spread evenly over the held-out texts; computed by all processes together."""
    numbers = np.linspace(0, len(held_out) - 1, min(settings.eval_rows, len(held_out))).astype(int)
    with eval_mode(loss):
        total = sum(share * mean_loss(loss, held_out, part, settings, crew).item()
                    for part, share, _ in my_pieces(numbers, settings, crew))  # fmt: skip
    return crew.sum(total)[0]


def train_step(loss, rows, numbers, settings, crew):
    """Forward and backward for one global batch; returns its mean loss. Gradients are those of the whole batch.

    Each process takes every size-th row, in pieces. A piece counts by its share of the batch, times the number of
    processes, because DDP and FSDP divide the sum of the gradients by that number.
    """
    total = 0.0
    for part, share, last in my_pieces(numbers, settings, crew):
        with crew.gradients_exchanged(loss, last):
            piece_loss = mean_loss(loss, rows, part, settings, crew)
            (piece_loss * share * crew.size).backward()
        total += piece_loss.item() * share
    return crew.sum(total)[0]


class Log:
    """OUT/log.csv: a line per logged step. After an interruption it goes on from the checkpoint's step."""

    FIELDS = ("step", "tokens", "lr", "loss", "norm", "held_out", "tokens_per_second")

    def __init__(self, path, step):
        kept = io.StringIO(newline="")
        writer = csv.DictWriter(kept, self.FIELDS)
        writer.writeheader()
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace", newline="") as file:
                for row in csv.DictReader(file):        # a line may be half or damaged after a crash
                    if set(row) == set(self.FIELDS) and None not in row.values() and row["step"].isdigit():
                        if int(row["step"]) <= step:
                            writer.writerow(row)
        write_file(path, kept.getvalue().encode())
        self.file = open(path, "a", encoding="utf-8", newline="")
        self.writer = csv.DictWriter(self.file, self.FIELDS)

    def write(self, **values):
        self.writer.writerow(values)
        self.file.flush()
        print("  ".join(f"{name} {value}" for name, value in values.items() if value != ""), flush=True)


def config_of_run(settings):
    """The model's configuration: GPT-2's vocabulary and layout at the size asked for."""
    sizes = ("emb_dim", "n_layers", "n_heads", "context_length", "drop_rate")
    return {"vocab_size": VOCAB_SIZE, "qkv_bias": True, "tie_weights": True,
            **{name: getattr(settings, name) for name in sizes}}  # fmt: skip


@torch.no_grad()
def start_as_gpt2(model):
    """Draw first weights close to GPT-2's; returns the model.

    PyTorch's own start gives each position a vector 50 times as long as a tied token's, and training takes long to
    get over that. Here matrices have a standard deviation of 0.02 and biases are 0. The last matrix of each branch
    gets less, so that 2 * n_layers branches added up are no longer than one (Radford et al., 2019, section 2.3).
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            last = name.endswith(("att.out_proj.weight", "ff.layers.2.weight"))
            parameter.normal_(std=0.02 / math.sqrt(2 * len(model.trf_blocks)) if last else 0.02)
        elif name.endswith("bias"):
            parameter.zero_()
    return model


@contextlib.contextmanager
def signals_to_stop():
    """A list that gets an entry for each Ctrl-C, SIGTERM and SIGHUP (a closed terminal), which then do nothing else."""
    asked, before = [], {}
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):       # Windows has no SIGHUP
            before[name] = signal.signal(getattr(signal, name), lambda *_: asked.append(True))
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def run(settings, data, out, crew):
    """Train to the last step, or to a signal to stop."""
    settings = with_warmup(settings, out)
    check_ranges(settings)
    with signals_to_stop() as asked_to_stop, only_run(out, crew):
        train_until_stopped(settings, data, out, crew, asked_to_stop)


def train_until_stopped(settings, data, out, crew, asked_to_stop):
    """Train to the last step, or until ``asked_to_stop`` has an entry in some process."""
    rows, held_out = (Rows(data, part, settings.context_length) for part in ("train", "held_out"))
    check_settings(settings, rows, held_out, crew, out)
    cfg = config_of_run(settings)
    torch.manual_seed(settings.seed)
    # Weights that are shared out are made on the CPU: one device need not have room for all.
    shard = settings.shard and crew.size > 1
    model = start_as_gpt2(GPTModel(cfg)).to("cpu" if shard else crew.device)
    optimizer = make_optimizer(model, settings)
    progress, path = Progress(), out / "checkpoint.pth"
    if path.is_file():
        progress = restore_checkpoint(load_checkpoint(path), model, optimizer)
        check_end(settings, out, progress.step)
    crew.sum(0)     # all have read settings.json before it is written
    if shard:
        states = [optimizer.state[parameter] for parameter in parameters_of(optimizer)]
        del optimizer       # it holds on to the whole weights, which would stay on a GPU beside its share of them
    loss = crew.spread(SummedLoss(model, settings.compile), shard)
    if shard:
        optimizer = make_optimizer(model, settings)
        share_out(states, optimizer)
    chief = crew.rank == 0
    if chief:
        write_file(out / "settings.json", json.dumps(facts_of_run(settings, rows), indent=2).encode())
        log = Log(out / "log.csv", progress.step)
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{n_parameters:,} parameters, {len(rows):,} rows, {crew.size} process(es) on {crew.device.type}; "
              f"from step {progress.step} to {settings.steps}", flush=True)  # fmt: skip

    loss.train()
    start, tokens_before = time.perf_counter(), progress.tokens_seen
    while progress.step < settings.steps:
        step = progress.step
        # The random numbers of a step depend on nothing but the seed, the step and the process.
        torch.manual_seed(int(np.random.default_rng([settings.seed, step, crew.rank]).integers(2**63)))
        lr = lr_of_step(step, settings)
        appendix.set_learning_rate(optimizer, lr)
        optimizer.zero_grad()
        numbers = rows_of_step(step, len(rows), settings.global_batch, settings.seed)
        step_loss = train_step(loss, rows, numbers, settings, crew)
        norm = appendix.clip_gradients(model, settings.max_norm, step + 1)
        optimizer.step()
        progress.step, progress.tokens_seen = step + 1, progress.tokens_seen + len(numbers) * settings.context_length
        progress.epoch = progress.step // math.ceil(len(rows) / settings.global_batch)

        last = progress.step == settings.steps
        stop = crew.sum(len(asked_to_stop))[0] > 0
        look = settings.eval_every and (progress.step % settings.eval_every == 0 or last)
        save = last or stop or progress.step % settings.save_every == 0
        write = bool(look and settings.prompt)
        if save or write:
            # With FSDP nobody has the whole model, so all processes take part in putting it together.
            whole, its_optimizer = gathered(model, optimizer, cfg, settings, chief) if shard else (model, optimizer)
        if chief and save:      # first, because somebody who has asked to stop may not wait long
            save_or_refuse(path, whole, its_optimizer, cfg, progress)
        measured = held_out_loss(loss, held_out, settings, crew) if look else ""
        if chief and (look or last or progress.step % settings.log_every == 0):
            speed = (progress.tokens_seen - tokens_before) / (time.perf_counter() - start)
            start, tokens_before = time.perf_counter(), progress.tokens_seen
            log.write(step=progress.step, tokens=progress.tokens_seen, lr=f"{lr:.3e}", loss=f"{step_loss:.6f}",
                      norm=f"{norm:.3f}", held_out=f"{measured:.6f}" if look else "",
                      tokens_per_second=f"{speed:.0f}")  # fmt: skip
        if chief and write:
            print(sample(whole, settings.prompt), flush=True)
        if stop:
            break
    if chief:
        log.file.close()
        print(f"stopped after step {progress.step}; the same command goes on from there"
              if progress.step < settings.steps else f"done: {path}")  # fmt: skip


def make_optimizer(model, settings):
    """AdamW for a model, with weight decay for its matrices only."""
    groups = appendix.decay_groups(model, settings.weight_decay)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.95), fused=fused)


def parameters_of(optimizer):
    """All parameters of an optimizer, in the order of its state's numbers."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def share_out(states, sharded):
    """Give an optimizer of shared-out parameters its part of the states (a dict a parameter) of a whole model's."""
    for state, parameter in zip(states, parameters_of(sharded)):
        for name, value in state.items():
            value = value.to(parameter.device)
            if value.ndim:
                value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
            sharded.state[parameter][name] = value


def gathered(model, optimizer, cfg, settings, chief):
    """Whole copies, on the CPU, of a shared-out model and its optimizer; all must call it, only the chief gets them."""
    def whole(tensor):
        return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()

    weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    states = [{name: whole(value) for name, value in optimizer.state[parameter].items()}
              for parameter in parameters_of(optimizer)]  # fmt: skip
    if not chief:
        return None, None
    whole_model = GPTModel(cfg)
    whole_model.load_state_dict(weights)
    its_optimizer = make_optimizer(whole_model, settings)
    for parameter, state in zip(parameters_of(its_optimizer), states):
        its_optimizer.state[parameter] = state
    appendix.set_learning_rate(its_optimizer, optimizer.param_groups[0]["lr"])
    return whole_model, its_optimizer


def save_or_refuse(path, *parts):
    """save_checkpoint; a disk that is full ends the run with a message, and the checkpoint before stays."""
    try:
        save_checkpoint(path, *parts)
    except OSError as error:
        raise Refused(f"{path} cannot be written; is the disk full? ({error})") from error


def sample(model, prompt, n_tokens=40):
    """The prompt and what the model adds, on one line. Seeds the random numbers, as each training step does."""
    from shared.assets import use_offline_vocabulary

    use_offline_vocabulary()
    import tiktoken

    tokenizer = tiktoken.get_encoding("gpt2")
    ids = text_to_token_ids(prompt, tokenizer).to(model.tok_emb.weight.device)
    torch.manual_seed(0)
    ids = generate(model, ids, n_tokens, model.pos_emb.num_embeddings, temperature=0.8, top_k=50)
    return token_ids_to_text(ids, tokenizer).replace("\n", " ")


# Finished models ----------------------------------------------------------------------------------------


def export(out, folder, compact):
    """Write the model of a run as a GPT-2 of transformers; or its config and weights only, in shared.compact's form."""
    path = out / "checkpoint.pth"
    if not path.is_file():
        raise Refused(f"{path} is missing; {out} is not the folder of a run, or nothing has been saved yet")
    checkpoint = load_checkpoint(path)
    model = GPTModel(checkpoint["config"])
    restore_checkpoint(checkpoint, model)
    export_gpt2(model, checkpoint["config"], folder)
    if compact:
        from safetensors.numpy import load_file, save_file

        from shared.compact import FORMAT, pack

        weights = folder / "model.safetensors"
        save_file(pack(load_file(weights)), weights, metadata=FORMAT)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / name).unlink()
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {size:.1f} MB, after step {checkpoint['progress']['step']}")


def measure(name, data):
    """Loss and perplexity of a model on all held-out rows, which are as long as its context."""
    settings, params = read_gpt2(name) if gpt2_files.is_folder(name) else download_and_load_gpt2(name, "gpt2")
    crew = Team(0, 1, get_device())
    model = GPTModel(config_of(settings))
    load_weights_into_gpt(model, params)
    held_out = Rows(data, "held_out", settings["n_ctx"])
    if not len(held_out):
        raise Refused(f"the held-out texts are shorter than one row of {settings['n_ctx']} tokens; hold out more")
    loss = SummedLoss(model.to(crew.device), compile=False)
    mean = held_out_loss(loss, held_out, Settings(eval_rows=len(held_out)), crew)
    print(f"{len(held_out) * settings['n_ctx']:,} held-out tokens: loss {mean:.4f}, perplexity {math.exp(mean):.1f}")


# Command line -------------------------------------------------------------------------------------------


def held_out_number(word):
    """What --held-out means: a number of documents, or a share of each."""
    number = float(word)
    if not 0 <= number < math.inf or (number >= 1 and number != int(number)):
        raise argparse.ArgumentTypeError(f"{word} is neither a whole number of texts nor a share below 1")
    return number


def command_line(arguments=None):
    """What is asked for: (the parsed arguments, Settings or None)."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("prepare", help="tokenise the .txt files of a folder")
    making.add_argument("texts", type=Path, help="folder with .txt files, one document each")
    making.add_argument("data", type=Path, help="folder for the token files")
    making.add_argument("--held-out", type=held_out_number, default=5,
                        help="how many documents are not trained on (default 5); below 1: what share of each")
    training = commands.add_parser("run", help="train, or go on with a run",
                                   formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    training.add_argument("data", type=Path, help="folder made by prepare")
    training.add_argument("out", type=Path, help="folder for checkpoint, log and settings")
    for each in dataclasses.fields(Settings):
        words = {"help": each.metadata["help"], "default": each.default}
        if each.default is None:        # its help says what happens
            words["default"] = argparse.SUPPRESS
        words |= {"action": "store_true"} if each.type is bool else {"type": each.type}
        training.add_argument(f"--{each.name.replace('_', '-')}", **words)
    exporting = commands.add_parser("export", help="write a run's model in the format of transformers")
    exporting.add_argument("out", type=Path, help="folder of the run")
    exporting.add_argument("folder", type=Path, help="folder for the model")
    exporting.add_argument("--compact", action="store_true", help="config and 8-bit weights only (shared/compact.py)")
    measuring = commands.add_parser("measure", help="loss of a finished model on all held-out texts")
    measuring.add_argument("model", help="a folder made by export, or a size of GPT-2, such as 124M")
    measuring.add_argument("data", type=Path, help="folder made by prepare")
    asked = parser.parse_args(arguments)
    if asked.command != "run":
        return asked, None
    given = {each.name: getattr(asked, each.name, each.default) for each in dataclasses.fields(Settings)}
    return asked, Settings(**given)


@contextlib.contextmanager
def in_one_line():
    """Errors that a user can do something about end the program with their message, without a traceback."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise Refused("out of memory: lower --micro-batch (the result stays the same), or begin a smaller model "
                          "in another folder, with a lower --context-length or --emb-dim") from error
        raise Refused(str(error)) from error


def main(arguments=None):
    print_any_character()
    asked, settings = command_line(arguments)
    if asked.command == "run":
        with team() as crew, in_one_line():
            run(settings, asked.data, asked.out, crew)
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise Refused(f"{asked.command} is the work of one process; start it without torchrun")
    with in_one_line():
        if asked.command == "prepare":
            prepare(asked.texts, asked.data, asked.held_out)
        elif asked.command == "export":
            export(asked.out, asked.folder, asked.compact)
        else:
            measure(asked.model, asked.data)


if __name__ == "__main__":
    main()
