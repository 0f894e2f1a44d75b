"""Argument checks that several functions of the course need, one line each where they are used.

A guard returns nothing and raises ValueError, with the value that is wrong and what to do. Values are passed by name,
because the message says the name: ``whole_numbers(rank=rank)``.
"""

from numbers import Integral, Real


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


def generation(max_new_tokens, context_size, seeds=None, n_prompts=None):
    """Room for what is written: whole numbers, and a seed for each prompt if there are seeds."""
    whole_numbers(at_least=0, max_new_tokens=max_new_tokens)
    whole_numbers(context_size=context_size)
    if seeds is not None and len(seeds) != n_prompts:
        raise ValueError(f"there are {len(seeds)} seeds for {n_prompts} prompts; give one for each")


def answers_under(data, key):
    """Each entry must have a text under ``key``; entries are counted from 0."""
    instruction_entries(data)
    for number, entry in enumerate(data):
        if not isinstance(entry.get(key), str):
            raise ValueError(f"entry {number} has no text under {key!r}: let the model answer first")
