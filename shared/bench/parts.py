"""The parts of the benchmark; each adds its rows to a table."""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from shared.assets import fetch_smollm2
from shared.bench import limits
from shared.bench.table import alternate
from shared.carry import load_chapter
from shared.course import ROOT, chapter_notebook, chapters, notebooks
from shared.fast_linear import with_fast_linears

MODEL = {"vocab_size": 50_257, "context_length": 1_024, "emb_dim": 768, "n_heads": 12, "n_layers": 12,
         "drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}  # fmt: skip
SMALLER = {"emb_dim": 192, "n_heads": 6, "n_layers": 3}


def config(options):
    """The 124M model's config, or with --quick a small one's."""
    return MODEL | (SMALLER if options.quick else {})


def pair(options, device):
    """Chapter 5's code, its model and transformers' with the same random weights, on the device."""
    from shared.tests.bench_ch05 import gpt2_pair

    cfg = config(options)
    ch05, ours, theirs = gpt2_pair({"n_embd": cfg["emb_dim"], "n_layer": cfg["n_layers"], "n_head": cfg["n_heads"],
                                    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})  # fmt: skip
    for part in ours.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return ch05, ours.to(device), theirs.to(device)


def device_at_hand():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# 1 and 5: steps -----------------------------------------------------------------------------------------------


def train(table, options):
    """A training step: forward, backward, optimizer."""
    device = device_at_hand()
    shapes = [(2, 64)] if options.quick else [(2, 256), (8, 1_024)] if device.type == "cuda" else [(2, 256)]
    for batch, length in shapes:
        ch05, ours, theirs = pair(options, device)
        ids = torch.randint(0, 50_257, (batch, length + 1), device=device)

        def step(model, optimizer, logits_of, dtype=None, ids=ids):
            def once():
                with torch.autocast(device.type, dtype, enabled=dtype is not None):
                    logits = logits_of(model)(ids[:, :-1])
                    loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if device.type == "cuda":
                    torch.cuda.synchronize()

            return once

        def adamw(model, fused=True):
            return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused)

        from shared.tests.bench_ch04 import step_by_step

        plain = step_by_step(ch05, ours).to(device).train()
        needed = operations(ours, ids)      # PyTorch counts its own products only
        with_fast_linears(ours).train()
        theirs.train()
        own, their = (lambda model: model), (lambda model: lambda x: model(x).logits)
        ways = {"step by step": step(plain, adamw(plain, fused=False), own),
                "the course's": step(ours, adamw(ours), own),
                "transformers": step(theirs, adamw(theirs), their),
                "the course's, bfloat16": step(ours, adamw(ours), own, torch.bfloat16),
                "transformers, bfloat16": step(theirs, adamw(theirs), their, torch.bfloat16)}  # fmt: skip
        peaks = {}
        for dtype in (torch.float32, torch.bfloat16):
            for library, product in limits.libraries(device, dtype).items():
                peak = limits.matrix_products(batch * length, device, dtype, 2 if options.quick else 5, product)
                peaks.setdefault(dtype, []).append(peak)
                kind = "float32" if dtype == torch.float32 else "bfloat16"
                table.add("train", f"products alone, {library}, {kind}, {batch} x {length}", peak / 1e9, "GFLOP/s")
        named = {f"{name}, {batch} x {length}": way for name, way in ways.items()}
        table.add_times("train", alternate(named, options.runs), f"transformers, {batch} x {length}",
                        limit={name: needed / max(peaks[torch.bfloat16 if "bfloat16" in name else torch.float32])
                               for name in named})  # fmt: skip


def operations(model, ids):
    """Operations of the matrix products of a training step, as PyTorch counts them.

    On the CPU it leaves out those inside the fused attention, some 4 % for 256 tokens.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        model(ids[:, :-1]).sum().backward()
    model.zero_grad()
    return counted.get_total_flops()


def tune(table, options):
    """A step of fine-tuning a classifier: seconds, and the most memory of its tensors beside the weights."""
    from shared.measure import peak_tensor_memory

    device = device_at_hand()
    lora = load_chapter("appendix_e_lora")
    torch.manual_seed(1)
    base = lora.GPTModel(config(options))
    ids = torch.randint(0, 50_000, (8, 32), device=device)
    labels = torch.randint(0, 2, (8,), device=device)

    def prepared(what):
        model = copy.deepcopy(base)
        if what == "LoRA":
            lora.prepare_lora(model, rank=16, alpha=16)
        else:
            lora.prepare_classifier(model)
            if what == "everything":
                model.requires_grad_(True)
        model.to(device).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

        def once():
            optimizer.zero_grad()
            lora.calc_class_loss_batch(ids, labels, model, device).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    ways = {what: prepared(what) for what in ("everything", "last block", "LoRA")}
    for what, way in ways.items():
        _, peak = peak_tensor_memory(lambda: [way(), way()])  # noqa: B023 (called at once)
        table.add("tune", f"{what}: memory", peak, "MB")
    table.add_times("tune", alternate(ways, options.runs), "everything")


# 2: writing ---------------------------------------------------------------------------------------------------


def generate(table, options):
    """200 tokens after a prompt of 8, for one text and for eight; of GPT-2's layout and of SmolLM2."""
    device, n_new = device_at_hand(), 20 if options.quick else 200
    ch05, ours, theirs = pair(options, device)
    reading = limits.memory_reading(device)
    table.add("generate", "reading memory", reading / 1e9, "GB/s")
    for batch in (1, 8):
        prompt = torch.randint(0, 50_257, (batch, 8), device=device)
        if batch == 1:
            # Read anew for each token, the course's own code takes long: one run of it says enough.
            plain = alternate({"plain, batch 1": lambda: ch05.generate(ours, prompt, n_new, 1_024,  # noqa: B023
                                                                       use_cache=False)}, 1, warm=0)  # fmt: skip
            table.add_times("generate", plain)
        writing(table, options, f"batch {batch}", ours.eval(), theirs.eval(), prompt, n_new, reading)
    smol = None if options.quick else fetch_smollm2(without="its rows are left out")
    if smol is not None:
        theirs = transformers_gguf(smol.path)
        ours, tokenizer = ch05.load_gguf(smol.path)
        text = "The lighthouse stood at the end of the island, and every evening the keeper climbed its stairs to"
        prompt = torch.tensor([tokenizer.encode(text)], device=device)
        writing(table, options, "SmolLM2", ours.to(device), theirs.to(device), prompt, n_new, reading)


def writing(table, options, name, ours, theirs, prompt, n_new, reading):
    """Rows for one model: the course's generate in 32 and in 8 bits, transformers', and whether they write the same."""
    course = load_chapter("appendix_d_training_loop")
    ours_8 = course.blocks_in_eight_bits(copy.deepcopy(ours))
    written = {}

    def way(key, model):
        def once():
            written[key] = course.generate(model, prompt, n_new, 1_024)

        return once

    def transformers():
        written["theirs"] = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n_new,
                                            min_new_tokens=n_new, do_sample=False, pad_token_id=0)  # fmt: skip

    ways = {f"cached, {name}": way("ours", ours), f"cached, 8 bits, {name}": way("ours_8", ours_8),
            f"transformers, {name}": transformers}  # fmt: skip
    # Every token takes reading all weights once, however many texts there are.
    least = {key: n_new * bytes_read(model) / reading for key, model in zip(ways, (ours, ours_8, theirs))}
    table.add_times("generate", alternate(ways, options.runs), f"transformers, {name}",
                    limit=least if len(prompt) == 1 else None)  # fmt: skip
    same = written["ours"] == written["theirs"]
    table.add("generate", f"tokens as transformers', {name}", same[:, prompt.shape[1]:].float().mean().item(), "share")


def bytes_read(model):
    """Bytes of a model's matrices, which every token passes through; embeddings count if they are the output layer."""
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    lookups = [part.weight for part in model.modules() if isinstance(part, nn.Embedding)]
    heads = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    only_looked_up = {id(weight) for weight in lookups} - {id(weight) for weight in heads}
    return sum(tensor.nbytes for key, tensor in tensors.items()
               if tensor.ndim == 2 and tensor.dtype != torch.bool and key not in only_looked_up)  # fmt: skip


def transformers_gguf(path):
    """A GGUF file's model in transformers, in float32."""
    from transformers import AutoModelForCausalLM

    folder, name = os.path.split(path)
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()


# 3: loading -----------------------------------------------------------------------------------------------------

# Prints, as JSON, the seconds until a model has been loaded and has given its first logits, and the most memory of its
# own that the process took, beyond what it had before. (Weights that are only mapped are read by the first use.)
LOADING = """
import json, sys, threading, time
sys.path.insert(0, {root!r})
import gguf, psutil, torch                # of what is read lazily, nothing belongs to loading
{imports}
torch.nn.functional.linear(torch.rand(64, 64), torch.rand(64, 64))
def own():
    # On Linux without the pages of files, which the system takes back when it needs them.
    if sys.platform.startswith("linux"):
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))
    return psutil.Process().memory_full_info().uss
before, peak, done, begin = own(), 0, False, time.perf_counter()
def watch():
    global peak
    while not done:
        peak = max(peak, own())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
model = {load}
with torch.no_grad():
    model(torch.tensor([[1, 2, 3]]))
done, seconds = True, time.perf_counter() - begin
thread.join()
peak = max(peak, own())
print(json.dumps([seconds, (peak - before) / sum(4 * p.numel() for p in model.parameters())]))
"""
SIZES = {"124M": (768, 12, 12), "355M": (1_024, 24, 16), "774M": (1_280, 36, 20), "1558M": (1_600, 48, 25)}
COURSE = "from shared.carry import load_chapter\nch05 = load_chapter('ch05_pretraining')\n" \
         "def loaded(folder):\n    settings, params = ch05.read_gpt2(folder)\n" \
         "    with ch05.without_initialisation():\n" \
         "        model = ch05.GPTModel(ch05.config_of(settings)).eval()\n" \
         "    ch05.load_weights_into_gpt(model, params)\n    return model\n"  # fmt: skip
THEIRS = "from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaForCausalLM"


def load(table, options):
    """Loading random weights in GPT-2's layouts from folders, and SmolLM2 from its file."""
    if options.quick:
        sizes = {"a small one": (SMALLER["emb_dim"], SMALLER["n_layers"], SMALLER["n_heads"])}
    else:
        sizes = SIZES if options.all_sizes else {size: SIZES[size] for size in ("124M", "355M")}
    for size, (width, n_layers, n_heads) in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            from transformers import GPT2Config, GPT2LMHeadModel

            written = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=n_layers, n_head=n_heads))
            written.save_pretrained(folder, max_shard_size="20GB")
            del written
            loading(table, options, f"GPT-2, {size}", f"loaded({folder!r})",
                    f"GPT2LMHeadModel.from_pretrained({folder!r})")  # fmt: skip
    smol = None if options.quick else fetch_smollm2(without="its row is left out")
    if smol is not None:
        path = Path(smol.path)
        loading(table, options, "SmolLM2", f"ch05.load_gguf({str(path)!r})[0]",
                f"AutoModelForCausalLM.from_pretrained({str(path.parent)!r}, gguf_file={path.name!r}, "
                "dtype=torch.float32)")  # fmt: skip


def loading(table, options, name, ours, theirs):
    """Rows for one model that the two calls load, each in processes of its own, in turn."""
    programs = {f"{name}, the course's": loading_program(COURSE, ours),
                f"{name}, transformers": loading_program(THEIRS, theirs)}  # fmt: skip
    found = {way: [] for way in programs}
    for _ in range(1 + options.runs):
        for way, program in programs.items():
            found[way].append(child(["-c", program], way))
    measured = {way: each[1:] for way, each in found.items() if all(each)}    # at first the file came from the disk
    seconds = {way: [each[0] for each in rounds] for way, rounds in measured.items()}
    table.add_times("load", seconds, f"{name}, transformers")
    for way, rounds in measured.items():
        table.add("load", f"{way}: most memory", max(each[1] for each in rounds), "x weights")


def loading_program(imports, call):
    """A Python program that prints seconds and memory of loading a model, the call's value."""
    return LOADING.format(root=str(ROOT), imports=imports, load=call)


def child(arguments, name):
    """What a Python process prints as JSON; None, with a line, if it fails."""
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        print(f"          ({name} cannot be measured: {(run.stderr.strip().splitlines() or ['no message'])[-1]})")
        return None
    return json.loads(run.stdout.splitlines()[-1])


# 4: data --------------------------------------------------------------------------------------------------------

BUILDING = """
import json, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
import torch
from shared import token_files
from shared.assets import use_offline_vocabulary
from shared.carry import load_chapter
use_offline_vocabulary()
import psutil, tiktoken
ch02, tokenizer = load_chapter("ch02_text_data"), tiktoken.get_encoding("gpt2")
tokenizer.encode("warm up")
text, kind = Path(sys.argv[1]), sys.argv[2]
before, begin = psutil.Process().memory_info().rss, time.perf_counter()
if kind == "memory":
    rows = ch02.GPTDatasetV1(text.read_text(encoding="utf-8"), tokenizer, 256, 256)
else:
    token_files.write_token_file(token_files.read_chunks(text), text.with_suffix(".ids"), tokenizer)
    rows = token_files.TokenFileDataset(text.with_suffix(".ids"), 256, 256)
seconds = time.perf_counter() - begin
if sys.platform.startswith("linux"):     # not ru_maxrss, which begins with what the parent had
    with open("/proc/self/status", encoding="utf-8") as file:
        peak = next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
elif sys.platform == "win32":
    peak = psutil.Process().memory_info().peak_wset
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, (peak - before) / 1e6, len(rows)]))
"""


def words_of(megabytes, spaces=True):
    """A text of so many megabytes: sentences of the course's stories, or signs without a space between them."""
    import random

    rng, parts, size = random.Random(1), [], 0
    if spaces:
        from shared.stories import make_stories

        sentences = [entry["output"] for entry in make_stories(2_000, seed=3)]
    else:
        sentences = ["".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(rng.randrange(20, 200))) + "。"
                     for _ in range(2_000)]  # fmt: skip
    while size < megabytes * 1e6:
        parts.append(rng.choice(sentences))
        size += len(parts[-1].encode()) + spaces
    return (" " if spaces else "").join(parts)


def data(table, options):
    """Tokenizing and making rows of 256: seconds, and the most memory above the start."""
    sizes = (0.02, 0.2) if options.quick else (1, 10, 60)
    with tempfile.TemporaryDirectory() as folder:
        for spaces, language in ((True, "English"), (False, "without spaces")):
            before = {}
            for megabytes in sizes:
                text = Path(folder) / "text.txt"
                text.write_text(words_of(megabytes, spaces), encoding="utf-8", newline="")
                for kind in ("memory", "file"):
                    name = f"{language}, {megabytes} MB, in {'memory' if kind == 'memory' else 'a file'}"
                    found = child(["-c", BUILDING.format(root=str(ROOT)), str(text), kind], name)
                    if found is None:
                        continue
                    seconds, peak, _ = found
                    last = before.get(kind)
                    grown = seconds / last[1] if last else None
                    table.add("data", name, seconds, "s", f"{last[0]} MB" if last else "", grown)
                    table.add("data", f"{name}: most memory", peak, "MB")
                    before[kind] = (megabytes, seconds)


# 6: beginning ---------------------------------------------------------------------------------------------------


def finished(program, folder):
    """Run a Python program in a folder to its end."""
    subprocess.run([sys.executable, "-c", program], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def start(table, options):
    """From nothing to the first output."""
    for name, program in (("python with nothing", "pass"), ("import shared", "import shared"),
                          ("import torch", "import torch")):  # fmt: skip
        table.add_times("start", alternate({name: partial(finished, program, ROOT)}, options.runs))
    for chapter in chapters()[:1] if options.quick else chapters():
        program = (ROOT / "shared" / "setup_cell.py").read_text(encoding="utf-8")
        way = partial(finished, program, chapter_notebook(chapter).parent)
        table.add_times("start", alternate({f"setup cell of {chapter}": way}, min(2, options.runs)))
    for path in notebooks() if options.notebooks else ():
        environment = {**os.environ, "COURSE_SCALE": options.notebooks, "COURSE_PROGRESS": "off", "TQDM_DISABLE": "1"}
        begin = time.perf_counter()
        where = {"metadata": {"path": str(path.parent)}}
        program = (f"import nbformat; from nbclient import NotebookClient; book = nbformat.read({str(path)!r}, 4); "
                   f"NotebookClient(book, resources={where!r}).execute()")  # fmt: skip
        run = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True)
        took = time.perf_counter() - begin
        if run.returncode:
            print(f"          ({path.name} did not run to its end)")
        else:
            table.add("start", f"{path.parent.name}/{path.name}, {options.notebooks}", took, "s")


def widgets(table, options):
    """From the press of a key on a slider to the new picture, in Chromium."""
    from shared.bench.redraws import redraws  # needs Playwright

    paths = [chapter_notebook(chapter).relative_to(ROOT).as_posix() for chapter in chapters()]
    for notebook, name, times in redraws(paths[:1] if options.quick else paths):
        table.add("widgets", f"{Path(notebook).stem}: {name}", sorted(times)[len(times) // 2], "ms")


PARTS = {"train": train, "generate": generate, "load": load, "data": data, "tune": tune, "start": start,
         "widgets": widgets}  # fmt: skip
