"""GPT-2's weights, and the course's own small model, which stands in for them."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from shared import gpt2_files
from shared.assets import download, places, saving
from shared.assets.table import Asset, AssetError

# Size of GPT-2 -> where Hugging Face has them. Licence: modified MIT (OpenAI, 2019). No checksums: the files
# have been published anew before; what is read from them is checked name by name and shape by shape.
GPT2_REPOSITORIES = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
_GPT2_FILES = ("config.json", "model.safetensors")
# The course's own pretrained model, of the same layout; see the README.md in its folder.
SMALL_MODEL = "13M"
_SMALL_MODEL_FOLDER = places.SAMPLES / "small-model"
_SMALL_MODEL_SHA256 = "7643e3a1b0b2ecc2b248ede28c2d217a4cdc5bbc3f551a02a59e90871bfe0176"     # of its model.safetensors

_no_gpt2 = {}                # size -> why it could not be downloaded
_reported_stand_ins = set()  # sizes of GPT-2 that the reader has been told are not the published ones


def fetch_gpt2(model_size, models_dir="gpt2"):
    """The folder with a GPT-2's ``config.json`` and ``model.safetensors``: found, else downloaded, else a stand-in.

    The stand-in is the course's own small model, which can also be asked for by its size, ``SMALL_MODEL``; it
    comes with the course and is only unpacked into the cache.

    It is looked for as ``gpt2/SIZE`` in COURSE_DATA, then as SIZE in ``models_dir``. A download goes to the latter.

    Args:
        model_size: a key of ``GPT2_REPOSITORIES``, or ``SMALL_MODEL``.
        models_dir: a folder; a relative one counts from the cache, so that all chapters share one download.

    Returns:
        Path. If it is the stand-in, a line has been printed (once) that says so and how to get the published weights.

    Raises:
        ValueError: for another size.
        AssetError: if COURSE_DATA is no folder, what was downloaded cannot be saved, or the small model is damaged.
    """
    if model_size == SMALL_MODEL:
        return _small_model()
    if model_size not in GPT2_REPOSITORIES:
        raise ValueError(f"there is no GPT-2 of size {model_size!r}; the sizes are {', '.join(GPT2_REPOSITORIES)}, and "
                         f"{SMALL_MODEL}, the course's own")
    models_dir = Path(models_dir).expanduser()
    folders = [place / models_dir / model_size for place in (places.cache_folder(), places.spare_cache())]
    if places.data_folder() is not None:
        folders.insert(0, places.data_folder() / "gpt2" / model_size)
    for folder in folders:
        try:
            if gpt2_files.is_there(folder):
                return folder
        except ValueError as error:
            raise AssetError(str(error)) from error
    cause = "COURSE_OFFLINE is set"
    if not places.offline():
        # A second try in the same notebook could give other weights than the first: one answer until a restart.
        cause = _no_gpt2.get(model_size)
        try:
            if cause is None:
                return _download_gpt2(model_size, places.writable_cache() / models_dir / model_size)
        except download.NoAnswer as error:
            cause = _no_gpt2[model_size] = str(error)
    if model_size not in _reported_stand_ins:
        _reported_stand_ins.add(model_size)
        print(f"GPT-2 {model_size} could not be downloaded ({cause}); the course's own small model ({SMALL_MODEL}) "
              f"stands in. For the published weights, {places.retry()} and try again, or download "
              f"{' and '.join(_GPT2_FILES)} from https://huggingface.co/{GPT2_REPOSITORIES[model_size]} and put them "
              f"into {places.from_home(places.cache_folder() / models_dir / model_size)}")
    return _small_model()


def _download_gpt2(model_size, folder):
    """Download one size of GPT-2 into ``folder``; returns it. Raises download.NoAnswer or AssetError.

    The small config tells within seconds whether the network works. The weights come through huggingface_hub, which
    writes to another file first, resumes a transfer that breaks, and shows a progress bar; the config is saved last.
    """
    from huggingface_hub import constants, hf_hub_download, utils

    repository = GPT2_REPOSITORIES[model_size]
    url = f"{constants.ENDPOINT}/{repository}/resolve/main/config.json"
    asset = Asset("config.json", (url,), sha256=None, n_bytes=None, licence="modified MIT (OpenAI, 2019)", patience=30)
    try:
        config = download.verified_content(asset)
    except AssetError as error:     # a login page, for example; the stand-in's message says what to do
        raise download.NoAnswer(f"{urlsplit(url).netloc}: what arrived is not the published file") from error
    utils.logging.set_verbosity_error()     # it would report each retry; the outcome is reported here
    try:
        hf_hub_download(repository, "model.safetensors", local_dir=folder, etag_timeout=download.CONNECT_SECONDS)
    except Exception as error:      # of huggingface_hub, or of the library that it speaks HTTP with
        if getattr(error, "errno", None) in saving.DISK_FULL:
            raise saving.disk_is_full(folder) from error
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
            raise AssetError(f"{folder} cannot be written ({error}); name another folder as models_dir") from error
        raise download.NoAnswer(f"{urlsplit(url).netloc}: the connection broke ({type(error).__name__})") from error
    saving.save(config, folder / "config.json")
    return folder


def _small_model():
    """Folder of the course's own model in the format of the published ones; unpacked once, into the cache."""
    from safetensors import SafetensorError
    from safetensors.numpy import load, save_file

    from shared.compact import unpack

    def unreadable(error):
        return AssetError(f"the course's small model in {_SMALL_MODEL_FOLDER} cannot be read ({error}); get the course "
                          "again")

    try:
        packed = (_SMALL_MODEL_FOLDER / "model.safetensors").read_bytes()
        config = (_SMALL_MODEL_FOLDER / "config.json").read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    if hashlib.sha256(packed).hexdigest() != _SMALL_MODEL_SHA256:
        raise unreadable("its checksum is not the one that it should have")
    # Another version of the model must not be taken for this one.
    folder = places.writable_cache() / f"small-model-{hashlib.sha256(packed + config).hexdigest()[:8]}"
    if all((folder / name).is_file() for name in _GPT2_FILES):
        return folder
    arrays = unpack(load(packed))
    del packed
    saving.save(config, folder / "config.json")
    try:
        with tempfile.TemporaryDirectory(dir=folder) as unseen:
            # Not by way of saving.save: as bytes the model would be in memory once more.
            save_file(arrays, Path(unseen) / "model.safetensors", metadata={"format": "pt"})
            os.replace(Path(unseen) / "model.safetensors", folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        if (folder / "model.safetensors").is_file():    # another process was faster; Windows protects what it reads
            return folder
        raise AssetError(f"{folder / 'model.safetensors'} cannot be written ({error}). Free some space, or set "
                         "COURSE_CACHE to another folder, and run this again.") from error
    return folder
