"""Argument checks that several functions of the course need, one line each where they are used.

A guard returns nothing and raises ValueError, with the value that is wrong and what to do. Values are passed by name,
because the message says the name: ``whole_numbers(rank=rank)``.
"""

from numbers import Integral, Real

# Beyond these, float32 knows only 0 and infinity, and a softmax over them is NaN.
HOTTEST, LEAST_P = 1e18, 1e-30


def whole_numbers(at_least=1, **values):
    """Each value must be a whole number, ``at_least`` that large; None is let through, as "not given".

    >>> whole_numbers(rank=8, max_length=None)
    >>> whole_numbers(rank=0)
    Traceback (most recent call last):
    ValueError: rank must be a whole number, 1 or more; it is 0
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < at_least):
            raise ValueError(f"{name} must be a whole number, {at_least} or more; it is {value!r}")


def positive(**values):
    """Each value must be a number above 0."""
    for name, value in values.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a number above 0; it is {value!r}")


def above_0(**values):
    """Each value must be above 0; infinity is let through, as "no limit"."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0; it is {value}")


def shares(**values):
    """Each value must be a share above 0, and together they must leave something: their sum is below 1."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 < value < 1:
            raise ValueError(f"{name} must be a share between 0 and 1; it is {value!r}")
    total = sum(values.values())
    if total >= 1:
        raise ValueError(f"{' and '.join(values)} are {total:g} together; they must leave something over")


def labelled_texts(table, labels, where=None, rarer=None, max_length=None):
    """A table with the columns Label and Text must have rows without gaps, labels that are known, and each of them.

    Args:
        table: a pandas DataFrame.
        labels: the labels that are known.
        where: the file that the table was read from, for the message.
        rarer: the label that must not occur more often than the others.
        max_length: tokens that are kept of a text; checked here to save a line where both are needed.

    Rows are counted from 0 in the messages. A text of white space only counts as empty.
    """
    whole_numbers(max_length=max_length)
    place = f"{where}: " if where else ""
    for name in ("Label", "Text"):
        if name not in table.columns:
            raise ValueError(f"{place}there is no column {name!r}; the columns are {list(table.columns)}")
    if not len(table):
        raise ValueError(f"{place}there are no rows; is it the right file?")
    values, texts = table["Label"].tolist(), table["Text"]
    unknown = [row for row, value in enumerate(values) if value not in labels]
    if unknown:
        raise ValueError(f"{place}row {unknown[0]} has the label {values[unknown[0]]!r}; known are "
                         f"{', '.join(map(repr, labels))} ({len(unknown)} rows have another); correct them")
    empty = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if empty:
        raise ValueError(f"{place}row {empty[0]} has no text ({len(empty)} such rows); leave them out")
    counts = {label: values.count(label) for label in labels}
    missing = [label for label, count in counts.items() if not count]
    if missing:
        raise ValueError(f"{place}no row has the label {', '.join(map(repr, missing))}; take more data or other shares")
    if rarer is not None and counts[rarer] > min(counts.values()):
        raise ValueError(f"{place}{rarer} is not the rarer class: {counts}; there is nothing to leave out")


def some_text(text, max_length=None):
    """A text must be a str with something in it, and max_length, if given, a whole number above 0."""
    whole_numbers(max_length=max_length)
    if not isinstance(text, str):
        raise ValueError(f"the text must be a str, not {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"the text is {text!r}: there is nothing in it to judge")


def padded_on_the_right(ids, pad_token_id):
    """Ids (B, T) must begin with a real token in each row, or no position says what the row is about."""
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"expected ids of shape (rows, tokens) with at least one token, got {tuple(ids.shape)}")
    empty = (ids[:, 0] == pad_token_id).nonzero()
    if len(empty):
        raise ValueError(f"row {empty[0].item()} begins with padding ({pad_token_id}): the text is empty, or it was "
                         "padded on the left; leave it out, or pad on the right")  # fmt: skip


def has_batches(loader, name="the training loader"):
    """A loader must have a batch."""
    if not len(loader):
        raise ValueError(f"{name} has no batch: with drop_last, it needs as many rows as a batch has")


def adapter_settings(model, rank, alpha, wrapped, targets=None):
    """Rank and alpha must be above 0, and the model must hold a linear layer (of those named) or wrapped ones."""
    from torch import nn

    whole_numbers(rank=rank)
    positive(alpha=alpha)
    if isinstance(model, nn.Linear):
        raise ValueError("a linear layer cannot be replaced inside itself; pass the module that holds it")
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    if not names and not wrapped:
        raise ValueError(f"{type(model).__name__} has no linear layer, so there is nothing to adapt")
    if targets is not None and isinstance(targets, str):
        raise ValueError(f"targets is the text {targets!r}; pass a tuple of names, like ({targets!r},)")
    unknown = set(targets or ()) - names - {name.rpartition(".")[2] for name, _ in wrapped}
    if unknown:
        raise ValueError(f"there is no linear layer named {', '.join(sorted(unknown))}; there are "
                         f"{', '.join(sorted(names))}")  # fmt: skip


def adapter_fits(tensors, settings, own, own_settings, path):
    """An adapter from a file must have the names, shapes, scale and base of the model that it is given to."""
    for name in sorted(set(tensors) | set(own)):
        if name not in tensors or name not in own:
            where = "the file" if name in own else "the model"
            raise ValueError(f"{path} does not fit: {where} has no {name}; build the model as it was when it was saved")
        if tensors[name].shape != own[name].shape:
            raise ValueError(f"{path} does not fit: {name} is {tuple(tensors[name].shape)} in the file and "
                             f"{tuple(own[name].shape)} in the model; use the same rank and targets")  # fmt: skip
    for key, what in (("scale", "scale alpha / rank"), ("base", "base model")):
        given = (settings or {}).get(key)
        if given != own_settings[key]:
            raise ValueError(f"{path} does not fit: it was made for the {what} {given}, this model has "
                             f"{own_settings[key]}; use those that it was trained with")  # fmt: skip


def json_of(path):
    """What a JSON file holds; ValueError with file and line if it is no JSON, or no text in UTF-8."""
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}; correct it "
                         "there, or fetch the file again") from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not encoded in UTF-8 (byte {error.start}); save it as UTF-8") from error


def instruction_entries(data, where=None):
    """Entries must be dictionaries with the texts instruction, input and output; only the input may be empty.

    Entries are counted from 0 in the messages.
    """
    place = f"{where}: " if where else ""
    if not isinstance(data, list) or not data:
        raise ValueError(f"{place}expected a list with at least one entry, got {type(data).__name__}"
                         f"{' without entries' if data == [] else ''}")  # fmt: skip
    for number, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise ValueError(f"{place}entry {number} is {type(entry).__name__}, not a dictionary")
        for key in ("instruction", "input", "output"):
            if key not in entry:
                raise ValueError(f"{place}entry {number} has no {key!r}; it has {', '.join(map(repr, entry))}")
            if not isinstance(entry[key], str):
                raise ValueError(f"{place}{key} of entry {number} is {entry[key]!r}; it must be a text")
            if key != "input" and not entry[key].strip():
                raise ValueError(f"{place}{key} of entry {number} is empty; write one, or leave the entry out")


def rows_of_ids(batch, allowed_max_length=None):
    """A batch must have rows, each with an id, and allowed_max_length, if given, be a whole number above 0."""
    whole_numbers(allowed_max_length=allowed_max_length)
    if not len(batch):
        raise ValueError("the batch has no rows")
    empty = [row for row, ids in enumerate(batch) if not len(ids)]
    if empty:
        raise ValueError(f"row {empty[0]} of the batch has no ids; leave such texts out")


def tasks_fit(task_lengths, max_length):
    """Each task must leave room for at least one token of the answer in a row of max_length; None is no limit.

    A row whose task fills it would have nothing of the answer, and with tasks left out of the loss it would have
    nothing at all. Entries are counted from 0.
    """
    whole_numbers(max_length=max_length)
    for number, length in enumerate(task_lengths if max_length else ()):
        if length > max_length:
            raise ValueError(f"the task of entry {number} has {length} tokens, which leave no room for an answer in "
                             f"{max_length}; shorten it, leave it out, or allow longer rows")  # fmt: skip


def generation(max_new_tokens, context_size):
    """Room for what is written: both must be given, as whole numbers."""
    whole_numbers(at_least=0, max_new_tokens=-1 if max_new_tokens is None else max_new_tokens)
    whole_numbers(context_size=0 if context_size is None else context_size)


def prompts_fit(prompts, seeds, pad_token_id, vocab_size):
    """Prompts, lists of ids, and the token that fills them up must be the vocabulary's; a seed each, if any."""
    if seeds is not None and len(seeds) != len(prompts):
        raise ValueError(f"there are {len(seeds)} seeds for {len(prompts)} prompts; give one for each")
    for token_id in {pad_token_id}.union(*prompts):
        if not 0 <= token_id < vocab_size:
            what = "pad_token_id" if token_id == pad_token_id else "id"
            raise ValueError(f"{what} {token_id} is not in the vocabulary, whose ids run from 0 to {vocab_size - 1}")


def answers_under(data, key):
    """Each entry must have a text under ``key``; entries are counted from 0."""
    instruction_entries(data)
    for number, entry in enumerate(data):
        if not isinstance(entry.get(key), str):
            raise ValueError(f"entry {number} has no text under {key!r}: let the model answer first")


# Chapter 2 ----------------------------------------------------------------------------------------------


def known_ids(ids, vocabulary):
    """Each id must be a key of the vocabulary, a dict with ids as keys."""
    for token_id in ids:
        if token_id not in vocabulary:
            raise ValueError(f"id {token_id} is not in this vocabulary of {len(vocabulary)} entries, whose ids run "
                             f"from {min(vocabulary)} to {max(vocabulary)}")  # fmt: skip


def has_tokens(vocabulary, *tokens):
    """A vocabulary must have each of these tokens."""
    missing = [token for token in tokens if token not in vocabulary]
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}; add it with an id of its own")


def no_refused_token(text, refused):
    """A text must hold none of the special tokens that are refused, as tiktoken demands it."""
    for token in refused:
        if token in text:
            raise ValueError(f"the text holds {token}: pass allowed_special={{{token!r}}} to read it as the special "
                             "token, or disallowed_special=() to read it as ordinary text")  # fmt: skip


def room_for_a_row(n_tokens, max_length, stride):
    """Length and stride must be whole numbers above 0, and the text long enough for a row and the target of its end."""
    for name, value in (("max_length", max_length), ("stride", stride)):  # neither may be left out
        whole_numbers(**{name: 0 if value is None else value})
    if n_tokens <= max_length:
        raise ValueError(f"a text of {n_tokens} tokens is too short for max_length {max_length}: a row needs "
                         f"{max_length} + 1 tokens. Use a longer text or a smaller max_length")  # fmt: skip


def full_batch(n_rows, batch_size, drop_last):
    """With drop_last there must be enough rows for one batch, or nothing would be left."""
    if drop_last and n_rows < batch_size:
        raise ValueError(f"{n_rows} rows do not fill one batch of {batch_size}: with drop_last=True nothing would be "
                         "left. Use drop_last=False, a smaller batch_size or a longer text")  # fmt: skip


# Chapter 3 ----------------------------------------------------------------------------------------------


def one_text_of_vectors(x, d_in):
    """x must be the vectors of one text, (T, d_in)."""
    if x.ndim != 2 or x.shape[1] != d_in:
        raise ValueError(f"expected one text of shape (T, {d_in}), got {tuple(x.shape)}")


def vectors(x, d_in, context_length):
    """x must be a batch of vectors (B, T, d_in) with 1 to context_length tokens."""
    if x.ndim != 3 or x.shape[-1] != d_in:
        raise ValueError(f"expected vectors of shape (batch, tokens, {d_in}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point vectors, got {x.dtype}; token ids must be embedded first")
    if not 1 <= x.shape[1] <= context_length:
        raise ValueError(f"a text needs 1 to {context_length} tokens (the context length), got {x.shape[1]}")


def dropout_rate(rate):
    """A rate of dropout must be at least 0 and below 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate must be at least 0 and below 1; it is {rate}")


def divisible(**values):
    """The first value must be a multiple of the second: ``divisible(d_out=768, num_heads=12)``."""
    (name, value), (other, by) = values.items()
    if by < 1 or value % by != 0:
        raise ValueError(f"{name} must be divisible by {other}; {value} is not divisible by {by}")


# Chapter 4 ----------------------------------------------------------------------------------------------


def config(cfg, known, optional=()):
    """A config must have the entries of ``known``, a config that is right, each of its kind, and none misspelt."""
    from difflib import get_close_matches

    names = [*known, *optional]
    for name in (name for name in cfg if name not in names):
        for meant in get_close_matches(name, names, cutoff=0.9):
            raise ValueError(f"the config has an unknown entry {name}; is {meant} meant?")
    for name in (name for name in known if name not in cfg):
        raise ValueError(f"the config lacks {name}")
    for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
        if type(cfg[name]) is not int or cfg[name] < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; it is {cfg[name]!r}")
    for name in ("qkv_bias", *optional):
        if not isinstance(cfg.get(name, False), bool):
            raise ValueError(f"{name} must be True or False; it is {cfg[name]!r}")
    if not isinstance(cfg["drop_rate"], Real):
        raise ValueError(f"drop_rate must be a number; it is {cfg['drop_rate']!r}")
    dropout_rate(cfg["drop_rate"])


def token_ids(ids, vocab_size, context_length):
    """Ids must be a batch (B, T) that a model can read.

    The largest id is looked at on the CPU only: on a GPU, looking would make the processor wait for the card.
    """
    import torch

    if not torch.is_tensor(ids) or ids.ndim != 2 or ids.shape[0] < 1:
        got = tuple(ids.shape) if torch.is_tensor(ids) else type(ids).__name__
        raise ValueError(f"expected a tensor of ids of shape (batch, tokens), got {got}; a single text needs "
                         "a batch dimension: ids.unsqueeze(0)")  # fmt: skip
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"token ids must be int64 or int32, not {ids.dtype}")
    if not 1 <= ids.shape[1] <= context_length:
        raise ValueError(f"{ids.shape[1]} tokens do not fit: the context length is {context_length}")
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        lowest, highest = ids.min().item(), ids.max().item()
        if lowest < 0 or highest >= vocab_size:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"id {wrong} is not in the vocabulary, whose ids run from 0 to {vocab_size - 1}")


def something_to_continue(ids, max_new_tokens, context_size):
    """Ids must be beginnings (B, T) with at least one token, and the two numbers make sense."""
    if ids.ndim != 2 or ids.shape[1] < 1:
        raise ValueError(f"expected ids of shape (batch, tokens) with at least one token, got {tuple(ids.shape)}")
    generation(max_new_tokens, context_size)


# Chapter 5 ----------------------------------------------------------------------------------------------


def one_text(ids):
    """Ids must be those of one text, (1, T) or (T,)."""
    if ids.ndim > 1 and ids.shape[0] != 1:
        raise ValueError(f"expected the ids of one text, got a batch of shape {tuple(ids.shape)}; "
                         "decode its rows one by one")  # fmt: skip


def enough_rows(n_tokens, rows, wanted, context_length):
    """A text must give as many rows as are wanted."""
    if rows < wanted:
        raise ValueError(f"{n_tokens} tokens give {rows} rows of {context_length}, and {wanted} are needed; use a "
                         "longer text, a smaller context_length or batch_size, or another split")  # fmt: skip


def temperature_above_0(temperature):
    """A temperature that logits are divided by must be above 0; what 0 would mean is the argmax."""
    most = 2**63 if isinstance(temperature, Integral) else 3e38    # what a float32 tensor can be divided by
    if not isinstance(temperature, Real) or not 0 < temperature < most:
        raise ValueError(f"temperature must be a number above 0 and below {most:g}; it is {temperature!r}")


def sampling(temperature=0.0, top_k=None, top_p=None):
    """Settings must be such that a token can be chosen with them."""
    if not isinstance(temperature, Real) or not 0 <= temperature < HOTTEST:
        raise ValueError(f"temperature must be 0 (greedy) or above, and below {HOTTEST:g}; it is {temperature}")
    whole_numbers(top_k=top_k)
    if top_p is not None and not LEAST_P < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, or None; it is {top_p}")


def logits_with_a_largest(logits):
    """Each row of logits (..., V) must have a largest value that is a number, or nothing can be chosen."""
    if not logits.amax(dim=-1).isfinite().all():
        raise ValueError("the model gave logits that are NaN or infinite, so no token can be chosen; look at the "
                         "training loss: it was most likely NaN, too")  # fmt: skip


def room_in_context(max_tokens, context_length):
    """A cache must have room for a token, and no more than the model can read."""
    if not 1 <= max_tokens <= context_length:
        raise ValueError(f"{max_tokens} tokens do not fit: the context length is {context_length}")


def room_in_cache(ids, cache, vocab_size):
    """Ids (B, T) must be of the cache's batch size and fit into the room that it has left."""
    room, n_texts = cache.keys_values.shape[4], cache.keys_values.shape[2]
    token_ids(ids, vocab_size, room)
    if cache.length + ids.shape[1] > room or len(ids) != n_texts:
        raise ValueError(f"the cache holds {cache.length} of at most {room} tokens, for {n_texts} texts; "
                         f"ids of shape {tuple(ids.shape)} do not fit")  # fmt: skip


def beams(ids, num_beams, max_new_tokens, context_size):
    """Ids must be one beginning (1, T), and the numbers make sense."""
    whole_numbers(num_beams=num_beams)
    generation(max_new_tokens, context_size)
    if ids.ndim != 2 or ids.shape[0] != 1 or ids.shape[1] < 1:
        raise ValueError(f"expected the ids of one beginning, (1, T), with at least one token; got {tuple(ids.shape)}")


def place_for_a_head(own_head, tied):
    """If the arrays have an output matrix of their own, the model must have one, too."""
    if own_head and tied:
        raise ValueError("params has a matrix lm_head of its own; build the model with tie_weights False")


def arrays_fit(arrays, wanted, n_blocks):
    """Arrays from a file must be those that a model wants, by name and shape; none may be missing or left over.

    Args:
        arrays: name -> tensor.
        wanted: name -> shape; None where the model has no place for it.
        n_blocks: how many blocks the model has, for the message.
    """
    for name, shape in wanted.items():
        if name not in arrays:
            raise ValueError(f"params has no {name}; the model has {n_blocks} blocks")
        if shape is None:
            raise ValueError(f"the model has no place for {name}: build it with qkv_bias True")
        if tuple(arrays[name].shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(arrays[name].shape)}; this model needs {tuple(shape)}")
    for name in arrays:
        if name not in wanted:
            raise ValueError(f"params has {name}, for which the model has no place")


def same_vocabulary(n_tokenizer, n_model):
    """A tokenizer must have as many tokens as the model."""
    if n_tokenizer != n_model:
        raise ValueError(f"the tokenizer has {n_tokenizer} tokens, the model {n_model}; pass the model's own tokenizer")


# Appendix D ---------------------------------------------------------------------------------------------


def schedule(step, total_steps, warmup_steps, initial_lr, peak_lr, min_lr):
    """Steps must not be negative, and both other rates lie between 0 and the peak."""
    if min(step, total_steps, warmup_steps) < 0:
        raise ValueError(f"steps cannot be negative; step, total_steps and warmup_steps are {step}, {total_steps} and "
                         f"{warmup_steps}")  # fmt: skip
    if not (0 <= min_lr <= peak_lr < float("inf") and 0 <= initial_lr <= peak_lr):
        raise ValueError(f"initial_lr and min_lr must lie between 0 and peak_lr; they are {initial_lr} and {min_lr}, "
                         f"and peak_lr is {peak_lr}")  # fmt: skip


def training_run(train_loader, total_steps, warmup_steps, eval_freq, eval_iter):
    """There must be a batch to train on and, if anything is measured, one to measure; a warmup without end is told."""
    import warnings

    has_batches(train_loader)
    if warmup_steps >= total_steps > 0:
        warnings.warn(f"the warmup of {warmup_steps} steps lasts at least as long as the run of {total_steps}: the "
                      "peak is never reached", stacklevel=3)  # fmt: skip
    if eval_freq and eval_iter < 1:
        raise ValueError(f"eval_iter must be at least 1 batch; it is {eval_iter}")


def counted_predictions(counts):
    """Some prediction of these batches must count."""
    if not sum(counts):
        raise ValueError("no prediction counts in these batches, so there is nothing to learn from")
