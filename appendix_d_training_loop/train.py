"""Pretrains the course's GPT model on many texts: on one processor or GPU, or on several with torchrun.

    python3 appendix_d_training_loop/train.py prepare FOLDER_WITH_TEXTS DATA --held-out 5
    python3 appendix_d_training_loop/train.py run DATA OUT --steps 2000
    torchrun --nproc-per-node 2 appendix_d_training_loop/train.py run DATA OUT --steps 2000

`prepare` tokenises all .txt files once. `run` trains, and goes on where it was if OUT holds a checkpoint. Stopped
with Ctrl-C or SIGTERM, it saves a checkpoint first. OUT/log.csv has a line per logged step.
"""

import argparse
import contextlib
import csv
import dataclasses
import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402

from appendix_d_training_loop.previous_chapters import (  # noqa: E402
    GPTModel,
    Progress,
    generate,
    get_device,
    load_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    text_to_token_ids,
    token_ids_to_text,
    write_token_file,
)
from shared.carry import load_chapter  # noqa: E402

VOCAB_SIZE, END_OF_TEXT = 50_257, "<|endoftext|>"
SHARD_BYTES = 200_000_000  # a new file begins with the first text after that


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
    warmup_steps: int = setting(100, "steps until the peak")
    min_lr: float = setting(1e-4, "learning rate at the end")
    weight_decay: float = setting(0.1, "for matrices; vectors are not decayed")
    max_norm: float = setting(1.0, "limit of the gradient's norm")
    seed: int = setting(123, "for the first weights, the order of the rows, and dropout")
    bf16: bool = setting(False, "compute matrix products in bfloat16")
    compile: bool = setting(False, "compile the model with torch.compile")
    eval_every: int = setting(200, "steps between measurements on the held-out texts; 0: never")
    eval_rows: int = setting(200, "rows of the held-out texts per measurement")
    save_every: int = setting(200, "steps between checkpoints")
    log_every: int = setting(10, "steps between lines of the log")
    prompt: str = setting("The old house", "start of the sample that is written with each measurement")


FREE_TO_CHANGE = {"micro_batch", "bf16", "compile", "eval_every", "eval_rows", "save_every", "log_every", "prompt"}


class Refused(SystemExit):
    """The run cannot begin or go on; the message says why and what to do."""

    def __init__(self, words):
        super().__init__(f"train.py: {words}")


# Data ---------------------------------------------------------------------------------------------------


def prepare(texts, data, held_out):
    """Tokenise the .txt files of a folder into DATA/train_*.bin and DATA/held_out_*.bin, documents whole.

    Every ``len(files) / held_out``-th file, in the order of their names, is held out. A document ends with
    <|endoftext|>.
    """
    from shared.assets import read_text, use_offline_vocabulary

    use_offline_vocabulary()
    import tiktoken

    tokenizer = tiktoken.get_encoding("gpt2")
    files = sorted(texts.glob("*.txt"))
    if not 0 < held_out < len(files):
        raise Refused(f"{texts} has {len(files)} .txt files; {held_out} of them cannot be held out")
    chosen = {files[math.floor((number + 0.5) * len(files) / held_out)] for number in range(held_out)}
    data.mkdir(parents=True, exist_ok=True)
    facts = {"vocab_size": VOCAB_SIZE, "shards": {}, "held_out": sorted(path.name for path in chosen)}
    for part, paths in (("train", [p for p in files if p not in chosen]), ("held_out", sorted(chosen))):
        groups, size = [[]], 0
        for path in paths:
            if size > SHARD_BYTES:
                groups, size = [*groups, []], 0
            groups[-1].append(path)
            size += path.stat().st_size
        for number, group in enumerate(groups):
            name = f"{part}_{number:03d}.bin"
            pieces = (piece for path in group for piece in (read_text(path), END_OF_TEXT))
            facts["shards"][name] = write_token_file(pieces, data / name, tokenizer)
            print(f"{name}: {len(group)} texts, {facts['shards'][name]:,} tokens")
    (data / "data.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


class Rows:
    """The rows of L + 1 tokens of one part of the data, mapped from its files; row i begins where row i - 1 ended.

    Raises Refused if a file is missing, was cut short or replaced, or has ids of another vocabulary.
    """

    def __init__(self, data, part, length):
        path = data / "data.json"
        if not path.is_file():
            raise Refused(f"{path} is missing; make it with: train.py prepare FOLDER_WITH_TEXTS {data}")
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["vocab_size"] != VOCAB_SIZE:
            raise Refused(f"{data} was tokenised with {facts['vocab_size']} ids, the model has {VOCAB_SIZE}")
        self.length, self.shards = length, []
        for name, n_tokens in facts["shards"].items():
            if name.startswith(part):
                if not (data / name).is_file() or (data / name).stat().st_size != 2 * n_tokens:
                    raise Refused(f"{data / name} should hold {n_tokens:,} tokens, and does not; prepare it again")
                tokens = np.memmap(data / name, dtype="<u2", mode="r")
                if tokens[:: max(1, n_tokens // 10_000)].max() >= VOCAB_SIZE:
                    raise Refused(f"{data / name} has ids beyond {VOCAB_SIZE - 1}: it is of another vocabulary")
                self.shards.append(tokens)
        counts = [max(0, (len(tokens) - 1) // length) for tokens in self.shards]
        self.first = np.cumsum([0, *counts])

    def __len__(self):
        return int(self.first[-1])

    def batch(self, numbers):
        """Inputs and targets (n, L) of the rows with these numbers, as int64 tensors."""
        rows = np.empty((len(numbers), self.length + 1), dtype=np.int64)
        for place, number in enumerate(numbers):
            shard = int(np.searchsorted(self.first, number, side="right")) - 1
            start = (number - self.first[shard]) * self.length
            rows[place] = self.shards[shard][start : start + self.length + 1]
        rows = torch.from_numpy(rows)
        return rows[:, :-1], rows[:, 1:]


def rows_of_step(step, n_rows, global_batch, seed):
    """Numbers of the rows of one step: each pass has an order of its own, and uses every row once."""
    per_pass = math.ceil(n_rows / global_batch)
    order = np.random.default_rng([seed, step // per_pass]).permutation(n_rows)
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
        total = torch.tensor(numbers, dtype=torch.float64, device="cpu" if self.device.type == "cpu" else self.device)
        dist.all_reduce(total)
        return tuple(total.tolist())


@contextlib.contextmanager
def team():
    """The team that torchrun has started, or a team of one."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield Team(0, 1, get_device())
        return
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
    finally:
        dist.destroy_process_group()


# Training -----------------------------------------------------------------------------------------------


def check_settings(settings, rows, held_out, crew, out):
    """Refuse what cannot work before anything is computed."""
    if settings.global_batch < crew.size:
        raise Refused(f"--global-batch {settings.global_batch} leaves some of {crew.size} processes without a row; "
                      "raise it, or start fewer processes")
    if len(rows) < settings.global_batch:
        raise Refused(f"the data have {len(rows)} rows of {settings.context_length} tokens, fewer than --global-batch "
                      f"{settings.global_batch}; prepare more text, or lower it or --context-length")
    if settings.eval_every and not len(held_out):
        raise Refused("the held-out texts are shorter than one row; hold out more, or use --eval-every 0")
    if settings.warmup_steps >= settings.steps:
        raise Refused(f"--warmup-steps {settings.warmup_steps} must be below --steps {settings.steps}")
    if min(settings.steps, settings.global_batch, settings.micro_batch, settings.save_every, settings.log_every) < 1:
        raise Refused("steps, batches and intervals must be at least 1")
    before = out / "settings.json"
    if before.is_file():
        old = json.loads(before.read_text(encoding="utf-8"))
        for name, value in dataclasses.asdict(settings).items():
            if name not in FREE_TO_CHANGE and old.get(name) != value:
                raise Refused(f"{out} was begun with {name} {old.get(name)}, and is to go on with {value}; use the old "
                              "value, or another folder")


@torch.no_grad()
def held_out_loss(model, held_out, settings, crew):
    """Mean loss over the first ``eval_rows`` held-out rows, computed by all processes together."""
    n_rows, total, count = min(settings.eval_rows, len(held_out)), 0.0, 0
    was_training = model.training
    model.eval()
    for start in range(crew.rank * settings.micro_batch, n_rows, crew.size * settings.micro_batch):
        inputs, targets = held_out.batch(range(start, min(start + settings.micro_batch, n_rows)))
        logits = model(inputs.to(crew.device)).float()
        total += nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.to(crew.device).flatten(), reduction="sum").item()
        count += targets.numel()
    model.train(was_training)
    total, count = crew.sum(total, count)
    return total / count


def train_step(model, rows, numbers, settings, crew):
    """Forward and backward for one global batch; returns its mean loss. Gradients are those of the whole batch.

    Each process takes every size-th row, in pieces of micro_batch. The loss of a piece is its share of the global
    mean, times the number of processes, because DDP divides the sum of the gradients by that number.
    """
    mine = numbers[crew.rank :: crew.size]
    n_pieces = math.ceil(math.ceil(len(numbers) / crew.size) / settings.micro_batch)     # the same in all processes
    total = 0.0
    for piece in range(n_pieces):
        part = mine[piece * settings.micro_batch : (piece + 1) * settings.micro_batch]
        # A process whose rows are used up computes one with weight 0: the others wait for it at the end.
        inputs, targets = rows.batch(part if len(part) else numbers[:1])
        weight = len(part) / len(numbers)
        last = piece == n_pieces - 1
        wait = contextlib.nullcontext() if last or crew.size == 1 else model.no_sync()
        with wait, torch.autocast(crew.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            logits = model(inputs.to(crew.device, non_blocking=True))
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.to(crew.device, non_blocking=True).flatten())
            (loss * weight * crew.size).backward()
        total += loss.item() * weight
    return crew.sum(total)[0]


class Log:
    """OUT/log.csv: a line per logged step. After an interruption it goes on from the checkpoint's step."""

    FIELDS = ("step", "tokens", "lr", "loss", "norm", "held_out", "tokens_per_second")

    def __init__(self, path, step):
        kept = []
        if path.is_file():
            with open(path, encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self.file = open(path, "w", encoding="utf-8", newline="")
        self.writer = csv.DictWriter(self.file, self.FIELDS)
        self.writer.writeheader()
        self.writer.writerows(kept)

    def write(self, **values):
        self.writer.writerow(values)
        self.file.flush()
        print("  ".join(f"{name} {value}" for name, value in values.items() if value != ""), flush=True)


def run(settings, data, out, crew):
    """Train to the last step, or to the signal to stop; returns the last step that was done."""
    appendix = load_chapter("appendix_d_training_loop")
    rows, held_out = (Rows(data, part, settings.context_length) for part in ("train", "held_out"))
    check_settings(settings, rows, held_out, crew, out)
    cfg = {"vocab_size": VOCAB_SIZE, "context_length": settings.context_length, "emb_dim": settings.emb_dim,
           "n_heads": settings.n_heads, "n_layers": settings.n_layers, "drop_rate": settings.drop_rate,
           "qkv_bias": True, "tie_weights": True}  # fmt: skip
    torch.manual_seed(settings.seed)
    plain = GPTModel(cfg).to(crew.device)
    groups, fused = appendix.decay_groups(plain, settings.weight_decay), crew.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.95), fused=fused)
    progress, path = Progress(), out / "checkpoint.pth"
    if path.is_file():
        progress = restore_checkpoint(load_checkpoint(path, crew.device), plain, optimizer)
    model = torch.compile(plain) if settings.compile else plain
    if crew.size > 1:
        model = nn.parallel.DistributedDataParallel(model)
    chief = crew.rank == 0
    if chief:
        out.mkdir(parents=True, exist_ok=True)
        (out / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), indent=2), encoding="utf-8")
        log = Log(out / "log.csv", progress.step)
        n_parameters = sum(parameter.numel() for parameter in plain.parameters())
        print(f"{n_parameters:,} parameters, {len(rows):,} rows, {crew.size} process(es) on {crew.device.type}; "
              f"from step {progress.step} to {settings.steps}", flush=True)  # fmt: skip

    asked_to_stop = []
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), lambda *_: asked_to_stop.append(True))
    model.train()
    start, tokens_before = time.perf_counter(), progress.tokens_seen
    while progress.step < settings.steps:
        step = progress.step
        # The random numbers of a step depend on nothing but the seed, the step and the process.
        torch.manual_seed(int(np.random.default_rng([settings.seed, step, crew.rank]).integers(2**63)))
        lr = appendix.lr_at_step(step, settings.steps, settings.warmup_steps, 0.0, settings.lr, settings.min_lr)
        appendix.set_learning_rate(optimizer, lr)
        optimizer.zero_grad()
        numbers = rows_of_step(step, len(rows), settings.global_batch, settings.seed)
        loss = train_step(model, rows, numbers, settings, crew)
        norm = appendix.clip_gradients(plain, settings.max_norm, step)
        optimizer.step()
        progress.step, progress.tokens_seen = step + 1, progress.tokens_seen + len(numbers) * settings.context_length
        progress.epoch = progress.step // math.ceil(len(rows) / settings.global_batch)

        last = progress.step == settings.steps
        stop = crew.sum(len(asked_to_stop))[0] > 0
        measure = settings.eval_every and (progress.step % settings.eval_every == 0 or last)
        measured = held_out_loss(plain, held_out, settings, crew) if measure else ""
        if chief and (measure or last or progress.step % settings.log_every == 0):
            speed = (progress.tokens_seen - tokens_before) / (time.perf_counter() - start)
            start, tokens_before = time.perf_counter(), progress.tokens_seen
            log.write(step=progress.step, tokens=progress.tokens_seen, lr=f"{lr:.3e}", loss=f"{loss:.5f}",
                      norm=f"{norm:.3f}", held_out=f"{measured:.5f}" if measure else "",
                      tokens_per_second=f"{speed:.0f}")  # fmt: skip
        if chief and measure and settings.prompt:
            print(sample(plain, settings.prompt), flush=True)
        if chief and (last or stop or progress.step % settings.save_every == 0):
            save_checkpoint(path, plain, optimizer, cfg, progress)
        if stop:
            break
    if chief:
        log.file.close()
        print(f"stopped after step {progress.step}; the same command goes on from there"
              if progress.step < settings.steps else f"done: {path}")  # fmt: skip
    return progress.step


def sample(model, prompt, n_tokens=40):
    """The prompt and what the model adds, on one line; uses random numbers of its own."""
    from shared.assets import use_offline_vocabulary

    use_offline_vocabulary()
    import tiktoken

    tokenizer = tiktoken.get_encoding("gpt2")
    ids = text_to_token_ids(prompt, tokenizer).to(model.tok_emb.weight.device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ids = generate(model, ids, n_tokens, model.pos_emb.num_embeddings, temperature=0.8, top_k=50)
    return token_ids_to_text(ids, tokenizer).replace("\n", " ")


# Command line -------------------------------------------------------------------------------------------


def command_line(arguments=None):
    """What is asked for: (the parsed arguments, Settings or None)."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("prepare", help="tokenise the .txt files of a folder")
    making.add_argument("texts", type=Path, help="folder with .txt files, one document each")
    making.add_argument("data", type=Path, help="folder for the token files")
    making.add_argument("--held-out", type=int, default=5, help="how many documents are not trained on (default 5)")
    training = commands.add_parser("run", help="train, or go on with a run",
                                   formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    training.add_argument("data", type=Path, help="folder made by prepare")
    training.add_argument("out", type=Path, help="folder for checkpoint, log and settings")
    for each in dataclasses.fields(Settings):
        words = {"help": each.metadata["help"], "default": each.default}
        words |= {"action": "store_true"} if each.type is bool else {"type": each.type}
        training.add_argument(f"--{each.name.replace('_', '-')}", **words)
    asked = parser.parse_args(arguments)
    if asked.command == "prepare":
        return asked, None
    return asked, Settings(**{each.name: getattr(asked, each.name) for each in dataclasses.fields(Settings)})


def main(arguments=None):
    asked, settings = command_line(arguments)
    if settings is None:
        prepare(asked.texts, asked.data, asked.held_out)
        return
    with team() as crew:
        try:
            run(settings, asked.data, asked.out, crew)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise Refused("out of memory: lower --micro-batch (the result stays the same), then --context-length "
                              "or --emb-dim") from error
            raise Refused(str(error)) from error


if __name__ == "__main__":
    main()
