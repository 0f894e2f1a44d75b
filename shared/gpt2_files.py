"""Reading a GPT-2 from a folder in the format of transformers, whoever saved it.

A config says more than sizes: it can change what the model computes. Each key that does is honoured or refused by name,
so that nothing is loaded that then computes something else. Weights are read from safetensors, one file or several
(``model.safetensors.index.json``), one tensor at a time; pickles are not read.
"""

import re
from pathlib import Path

from shared.guards import json_of

WEIGHTS, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
SIZES = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer")
# Names under which transformers knows the same sizes in all its models.
ALIASES = {
    "n_positions": "max_position_embeddings", "n_embd": "hidden_size", "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}  # fmt: skip
# What the course's GPTModel computes: key -> values with which a GPT-2 computes the same. A missing key means the first
# one, as in transformers. (reorder_and_upcast_attn changes the order of roundings only, and is let through.)
COMPUTED = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
}


def is_folder(name):
    """Whether a model's name is that of a folder, and not of a size of GPT-2; ValueError if it is neither."""
    from shared.assets import GPT2_REPOSITORIES, SMALL_MODEL

    if Path(name).is_dir():
        return True
    if name not in (*GPT2_REPOSITORIES, SMALL_MODEL):
        raise ValueError(f"there is no folder {name}, and no size of GPT-2 of that name; the sizes are "
                         f"{', '.join(GPT2_REPOSITORIES)}, and {SMALL_MODEL}, the course's own")  # fmt: skip
    return False


def weight_files(folder):
    """The files with a folder's weights, or an empty list: model.safetensors, or the parts that an index names."""
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [folder / name for name in parts_of_index(folder)]
    return []


def is_there(folder):
    """Whether a folder has a config and all files of its weights; ValueError if it has an index that is none."""
    files = weight_files(folder)
    return bool(files) and all(path.is_file() for path in [Path(folder) / "config.json", *files])


def parts_of_index(folder):
    """Names of the files that an index of several files lists; ValueError if it is none."""
    path = Path(folder) / INDEX
    try:
        names = sorted(set(json_of(path)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no index of safetensors files ({type(error).__name__}: {error})") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{path} names the file {name!r}; only files in the same folder are read")
    return names


def read_config(folder):
    """The sizes of a GPT-2 from its config.json: a dict with SIZES and ``tie_word_embeddings``.

    Raises:
        FileNotFoundError: if there is no folder, or no config in it.
        ValueError: if a size is missing or no number, or if a key says that the model computes something else than the
            course's; names the key.
    """
    path = Path(folder) / "config.json"
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no config.json, so it is no model of transformers; there are: "
                                f"{_content(path.parent)}. From a run of train.py, make such a folder with its command "
                                "export")  # fmt: skip
    config = json_of(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} should hold names and values, and holds a {type(config).__name__}; get it again")
    for key, accepted in COMPUTED.items():
        if config.get(key, accepted[0]) not in accepted:
            raise ValueError(f"{path}: {key} is {config[key]!r}; the course's GPT-2 computes {accepted[0]!r} there, so "
                             "this model would write something else than it was trained for, and is not loaded")
    sizes = {}
    for name in SIZES:
        alias = ALIASES.get(name, name)
        value = config.get(name, config.get(alias))
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: {name} must be a whole number above 0; it is {value!r}")
        if config.get(alias, value) != value:
            raise ValueError(f"{path}: {name} is {value} and {alias}, which means the same, {config[alias]}")
        sizes[name] = value
    if config.get("n_inner") not in (None, 4 * sizes["n_embd"]):
        raise ValueError(f"{path}: n_inner is {config['n_inner']}; here the feed forward network is 4 * n_embd wide")
    return sizes | {"tie_word_embeddings": config.get("tie_word_embeddings", True) is not False}


def read_tensors(folder, n_blocks):
    """Yield (name, tensor) for each tensor of a folder's weights, mapped from its files and not read into memory.

    Weights in the compact form of ``shared.compact`` are unpacked.

    Raises:
        FileNotFoundError: if there are no weights, or a part of them is missing; names what there is.
        ValueError: if a file is damaged, or has a block beyond the ``n_blocks`` of the config.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    from shared import compact

    folder = Path(folder)
    files = weight_files(folder)
    if not files and (folder / PICKLE).is_file():
        raise FileNotFoundError(
            f"{folder} has its weights as {PICKLE}. That is a pickle: reading one can run code that its author put in, "
            f"so the course does not read it. If you trust the author, convert it once, with transformers: "
            f"GPT2LMHeadModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes {WEIGHTS}"
        )
    if not files:
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}; there are: {_content(folder)}. From a run of train.py, "
                                "make such a folder with its command export")  # fmt: skip
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is missing in {folder}, though {INDEX} names it; get it again")
        try:
            with safe_open(path, framework="pt") as file:
                packed = file.metadata() == compact.FORMAT
                whole = compact.unpack(load_file(path)) if packed else {}
                for name in whole or file.keys():
                    block = re.match(r"(?:transformer\.)?h\.(\d+)\.", name)
                    if block and int(block[1]) >= n_blocks:
                        raise ValueError(f"{path} has {name}, but config.json says that there are {n_blocks} blocks; "
                                         "get both again, from one place")  # fmt: skip
                    yield name, torch.from_numpy(whole[name]) if packed else file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not whole, or no safetensors file ({error}); get this file again") from error


def _content(folder):
    """What lies in a folder, for a message."""
    names = sorted(path.name for path in Path(folder).iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "no files"
