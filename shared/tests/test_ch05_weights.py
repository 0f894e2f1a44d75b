"""Chapter 5's loading of GPT-2's weights and export to transformers, on random weights of the published layouts."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from shared import assets, gpt2_files
from shared.bench import parts
from shared.course import ROOT
from shared.tests.limits import HANGS

SIZES = {"124M": (768, 12, 12), "355M": (1024, 24, 16), "774M": (1280, 36, 20), "1558M": (1600, 48, 25)}
TINY = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "vocab_size": 60}


def random_gpt2(folder, **config):
    """A GPT-2 of transformers with random weights, biases and norms included, saved in a folder; in eval mode."""
    torch.manual_seed(2)
    model = GPT2LMHeadModel(GPT2Config(**config, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def loaded(ch05, folder, **changes):
    settings, params = ch05.read_gpt2(folder)
    model = ch05.GPTModel(ch05.config_of(settings) | changes).eval()
    ch05.load_weights_into_gpt(model, params)
    return model


@pytest.fixture
def tiny(tmp_path):
    return random_gpt2(tmp_path / "tiny", **TINY), tmp_path / "tiny"


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_the_logits_of_transformers(ch05, tmp_path, size):
    """The published widths and heads; fewer blocks and a smaller vocabulary, to save memory."""
    width, n_layers, n_heads = SIZES[size]
    name = next(name for name in ch05.model_configs if size in name)
    assert ch05.model_configs[name] == {"emb_dim": width, "n_layers": n_layers, "n_heads": n_heads}
    theirs = random_gpt2(tmp_path, n_embd=width, n_head=n_heads, n_layer=2, n_positions=32, vocab_size=300)
    ours = loaded(ch05, tmp_path)
    for n_tokens in (1, 7, 32):
        ids = torch.randint(0, 300, (2, n_tokens))
        with torch.no_grad():
            want = theirs(ids).logits
            torch.testing.assert_close(ours(ids), want, rtol=1e-5, atol=1e-5 * want.abs().max().item())


def test_settings_and_params(ch05, tiny):
    theirs, folder = tiny
    settings, params = ch05.read_gpt2(folder)
    assert settings == {"n_vocab": 60, "n_ctx": 16, "n_embd": 32, "n_head": 4, "n_layer": 2, "tied": True}
    assert set(params) == {"wte", "wpe", "g", "b", "blocks"}
    assert params["blocks"][1]["attn"]["c_attn"]["w"].shape == (32, 96)
    torch.testing.assert_close(params["blocks"][1]["ln_2"]["g"], theirs.transformer.h[1].ln_2.weight.detach())
    assert len(ch05.leaves(params)) == 4 + 2 * 12


def test_head_is_shared_not_copied(ch05, tiny):
    theirs, folder = tiny
    for tied in (True, False):      # also in a model that was built with two matrices
        ours = loaded(ch05, folder, tie_weights=tied)
        assert ours.out_head.weight.data_ptr() == ours.tok_emb.weight.data_ptr()
        addresses = {parameter.data_ptr(): parameter.numel() for parameter in ours.parameters()}
        assert sum(addresses.values()) == sum(p.numel() for p in theirs.parameters())


def rewrite(folder, change):
    """Let ``change`` edit the tensors of a folder's file, by name."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_names_without_prefix_masks_and_a_stored_head_are_understood(ch05, tiny):
    theirs, folder = tiny

    def published(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)
        tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()

    rewrite(folder, published)
    ids = torch.randint(0, 60, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ch05, folder)(ids), theirs(ids).logits, rtol=1e-5, atol=1e-4)


def test_half_precision_files_are_read(ch05, tiny):
    theirs, folder = tiny
    rewrite(folder, lambda tensors: tensors.update({name: value.half() for name, value in tensors.items()}))
    ours = loaded(ch05, folder)
    assert ours.tok_emb.weight.dtype == torch.float32
    assert torch.equal(ours.pos_emb.weight, theirs.transformer.wpe.weight.half().float())


ATTENTION = "transformer.h.1.attn.c_attn.weight"
WRONG = {
    "missing": (lambda t: t.pop(ATTENTION), r"params has no blocks.1.attn.c_attn.w"),
    "transposed": (
        lambda t: t.update({ATTENTION: t[ATTENTION].T.contiguous()}),
        r"blocks.1.attn.c_attn.w has shape \(96, 32\); this model needs \(32, 96\)",
    ),
    "extra": (lambda t: t.update({"transformer.h.1.attn.rope.weight": torch.ones(2)}), "blocks.1.attn.rope.w, for"),
    "extra at the top": (lambda t: t.update({"value_head.weight": torch.ones(2)}), "params has value_head"),
    "of another model": (
        lambda t: t.update({"transformer.wpe.weight": torch.ones(8, 32)}),
        r"wpe has shape \(8, 32\); this model needs \(16, 32\)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_arrays_that_do_not_fit_are_named_and_nothing_is_copied(ch05, tiny, what):
    _, folder = tiny
    change, message = WRONG[what]
    rewrite(folder, change)
    settings, params = ch05.read_gpt2(folder)
    model = ch05.GPTModel(ch05.config_of(settings))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        ch05.load_weights_into_gpt(model, params)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_layers": 3}, "params has no blocks.2.attn.c_attn.w; the model has 3 blocks"),
        ({"n_layers": 1}, "params has blocks.1"),
        ({"qkv_bias": False}, "build it with qkv_bias True"),
        ({"emb_dim": 64}, r"wte has shape \(60, 32\); this model needs \(60, 64\)"),
        ({"context_length": 8}, "wpe has shape"),
    ],
    ids=str,
)
def test_a_model_that_does_not_fit(ch05, tiny, changes, message):
    settings, params = ch05.read_gpt2(tiny[1])
    with pytest.raises(ValueError, match=message):
        ch05.load_weights_into_gpt(ch05.GPTModel(ch05.config_of(settings) | changes), params)


def test_damaged_files_say_what_to_do(ch05, tiny):
    _, folder = tiny
    whole = (folder / "model.safetensors").read_bytes()
    config = (folder / "config.json").read_text(encoding="utf-8")
    for content in (whole[: len(whole) // 2], b"", b"<html>log in</html>"):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="model.safetensors is not whole, or no safetensors file .*get this file"):
            ch05.read_gpt2(folder)
    (folder / "model.safetensors").write_bytes(whole)
    one_block = config.replace('"n_layer": 2', '"n_layer": 1')
    for text, message in (("{}", "vocab_size must be a whole number above 0; it is None"), ("", "is no JSON"),
                          ("[1]", "holds a list"), (one_block, "has transformer.h.1.* that there are 1 blocks")):
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            ch05.read_gpt2(folder)


# Configs that change the computation, and files of other forms -------------------------------------------

# key, another value, and whether transformers then computes something else with the same weights
OTHER = [
    ("activation_function", "relu", True), ("activation_function", "gelu", False),
    ("activation_function", "silu", True), ("scale_attn_by_inverse_layer_idx", True, True),
    ("scale_attn_weights", False, True), ("layer_norm_epsilon", 1e-2, True), ("layer_norm_epsilon", 1e-6, False),
    ("n_inner", 64, False), ("add_cross_attention", True, False), ("model_type", "gpt_neo", False),
    ("quantization_config", {"bits": 8}, False), ("pruned_heads", {"0": [1]}, False),
]  # fmt: skip


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.mark.parametrize("key, value, computes_something_else", OTHER, ids=str)
def test_a_config_that_changes_the_computation_is_refused_by_name(ch05, tiny, key, value, computes_something_else):
    theirs, folder = tiny
    ids = torch.arange(16)[None]
    with torch.no_grad():
        want = theirs(ids).logits
        if computes_something_else:
            changed = GPT2LMHeadModel.from_pretrained(folder, **{key: value}, attn_implementation="eager").eval()
            assert (changed(ids).logits - want).abs().max() > 1e-3
    change_config(folder, **{key: value})
    with pytest.raises(ValueError, match=f"config.json: {key} is "):
        ch05.read_gpt2(folder)


@pytest.mark.parametrize("key, value", [
    ("activation_function", "gelu_pytorch_tanh"), ("activation_function", "gelu_fast"),
    ("reorder_and_upcast_attn", True), ("n_inner", 128),
], ids=str)  # fmt: skip
def test_a_config_that_computes_the_same_is_read(ch05, tiny, key, value):
    _, folder = tiny
    change_config(folder, **{key: value})
    theirs = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ch05, folder)(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_sizes_under_their_other_names(ch05, tiny):
    _, folder = tiny
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["hidden_size"] = config.pop("n_embd")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert ch05.read_gpt2(folder)[0]["n_embd"] == 32
    change_config(folder, n_embd=16)
    with pytest.raises(ValueError, match="n_embd is 16 and hidden_size, which means the same, 32"):
        ch05.read_gpt2(folder)


def test_weights_in_several_files_are_read(ch05, tiny, tmp_path, monkeypatch):
    theirs, _ = tiny
    folder = tmp_path / "sharded"
    theirs.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists() and len(list(folder.glob("model-*.safetensors"))) > 2
    ids = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ch05, folder)(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    assert gpt2_files.is_there(folder)
    next(folder.glob("model-00002*")).unlink()
    assert not gpt2_files.is_there(folder)
    with pytest.raises(FileNotFoundError, match="model-00002.* is missing in .*, though .*index.json names it; get it"):
        ch05.read_gpt2(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"wte.weight": "../elsewhere.safetensors"}}', encoding="utf-8")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "gpt2").mkdir(parents=True)
    folder.rename(tmp_path / "data" / "gpt2" / "124M")
    with pytest.raises(assets.AssetError, match="only files in the same folder are read"):
        assets.fetch_gpt2("124M", "gpt2")       # and not: passed over in silence for another folder
    folder = (tmp_path / "data" / "gpt2" / "124M").rename(folder)
    with pytest.raises(ValueError, match="only files in the same folder are read"):
        ch05.read_gpt2(folder)
    index.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="is no index of safetensors files"):
        ch05.read_gpt2(folder)


def test_pickles_are_not_read_and_nothing_is_to_be_deleted(ch05, tiny):
    _, folder = tiny
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="_model.bin. That is a pickle.*convert it.*save_pretrained") as error:
        ch05.read_gpt2(folder)
    assert "delete" not in str(error.value)
    (folder / "pytorch_model.bin").rename(folder / "tf_model.h5")
    with pytest.raises(FileNotFoundError, match="has no model.safetensors; there are: .*tf_model.h5"):
        ch05.read_gpt2(folder)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        ch05.read_gpt2(folder / "nowhere")
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "shared").glob("*.py")]
    assert not any("delete the" in text for text in texts)


def test_loaded_weights_can_be_trained_saved_and_read(ch05, tiny, tmp_path):
    """They are ordinary parameters: contiguous, as optimizers and files want them."""
    model = loaded(ch05, tiny[1])
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    ids = torch.randint(0, 60, (2, 9))
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = ch05.calc_loss_batch(ids[:, :-1], ids[:, 1:], model, "cpu")
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    torch.save(model.state_dict(), tmp_path / "model.pth")
    fresh = ch05.GPTModel(ch05.config_of(ch05.read_gpt2(tiny[1])[0]))
    fresh.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert torch.equal(fresh.eval()(ids), model.eval()(ids))


# Export --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_export_opens_in_transformers_and_comes_back(ch05, gpt2, tmp_path, tied, bias):
    cfg = {"vocab_size": 50257, "context_length": 16, "emb_dim": 16, "n_heads": 4, "n_layers": 2, "drop_rate": 0.1}
    cfg |= {"qkv_bias": bias, "tie_weights": tied}
    torch.manual_seed(3)
    model = ch05.GPTModel(cfg).eval()
    ch05.export_gpt2(model, cfg, tmp_path)
    theirs, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    text = "Naïve 🤗 keepers<|endoftext|>  don't sleep."
    ids = ch05.text_to_token_ids(text, gpt2)[:, :16]
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, model(ids), rtol=1e-5, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(text)["input_ids"][:16] == ids[0].tolist() and len(tokenizer) == 50257
    theirs.config.pad_token_id = 50256
    want = ch05.generate(model, ids[:, :4], 8, 16)
    assert torch.equal(theirs.generate(ids[:, :4], max_new_tokens=8, do_sample=False, eos_token_id=None), want)

    settings, params = ch05.read_gpt2(tmp_path)
    back = ch05.GPTModel(ch05.config_of(settings))
    ch05.load_weights_into_gpt(back, params)
    own = dict(model.named_parameters())
    for name, parameter in back.named_parameters():
        assert torch.equal(parameter, own[name]) if name in own else not parameter.any()
    again = tmp_path / "again"
    ch05.export_gpt2(back, ch05.config_of(settings), again)
    first, second = (load_file(folder / "model.safetensors") for folder in (tmp_path, again))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_two_matrices_do_not_fit_into_one(ch05, tmp_path):
    cfg = ch05.GPT_CONFIG_124M | {"vocab_size": 60, "context_length": 8, "emb_dim": 16, "n_heads": 4, "n_layers": 1}
    ch05.export_gpt2(ch05.GPTModel(cfg), cfg, tmp_path)
    settings, params = ch05.read_gpt2(tmp_path)
    with pytest.raises(ValueError, match="build the model with tie_weights False"):
        ch05.load_weights_into_gpt(ch05.GPTModel(ch05.config_of(settings) | {"tie_weights": True}), params)


def test_sizes_are_the_models_own(ch05, tmp_path):
    """A config that does not belong to the model cannot make a file that computes something else."""
    cfg = ch05.GPT_CONFIG_124M | {"vocab_size": 60, "context_length": 8, "emb_dim": 16, "n_heads": 4, "n_layers": 1}
    ch05.export_gpt2(ch05.GPTModel(cfg), cfg | {"n_heads": 2, "n_layers": 7, "emb_dim": 99}, tmp_path)
    settings, _ = ch05.read_gpt2(tmp_path)
    assert settings == {"n_vocab": 60, "n_ctx": 8, "n_embd": 16, "n_head": 4, "n_layer": 1, "tied": False}


def test_arrays_that_are_no_tensors_of_numbers(ch05, tiny):
    settings, params = ch05.read_gpt2(tiny[1])
    model = ch05.GPTModel(ch05.config_of(settings))
    for wrong in (params["wte"].long(), params["wte"].numpy(), None):
        with pytest.raises(ValueError, match="params.wte must be a tensor of floating-point numbers"):
            ch05.load_weights_into_gpt(model, params | {"wte": wrong})


def test_a_full_disk_leaves_no_folder_that_looks_whole(ch05, tmp_path, monkeypatch):
    cfg = ch05.GPT_CONFIG_124M | {"vocab_size": 60, "context_length": 8, "emb_dim": 16, "n_heads": 4, "n_layers": 1}

    def full(*args, **settings):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(ch05, "save_file", full)
    with pytest.raises(OSError, match="model.safetensors cannot be written: No space"):
        ch05.export_gpt2(ch05.GPTModel(cfg), cfg, tmp_path)
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        ch05.read_gpt2(tmp_path)


# Memory --------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc to see anonymous memory")
def test_loading_takes_little_more_memory_than_the_weights(ch05, tmp_path):
    """Layout of the smallest GPT-2, with 3 of its blocks: 240 MB. Pages mapped from the file do not count."""
    random_gpt2(tmp_path, n_embd=768, n_head=12, n_layer=3, n_positions=1024, vocab_size=50257)
    run = subprocess.run(
        [sys.executable, "-c", parts.loading_program(parts.COURSE, f"loaded({str(tmp_path)!r})")],
        capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert 0.9 < json.loads(run.stdout)[1] < 1.1


def test_the_config_that_is_written(ch05, tmp_path):
    cfg = ch05.GPT_CONFIG_124M | {"vocab_size": 60, "context_length": 8, "emb_dim": 16, "n_heads": 4, "n_layers": 1}
    ch05.export_gpt2(ch05.GPTModel(cfg), cfg, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["n_positions"], config["n_head"], config["resid_pdrop"]) == (8, 4, 0.1)
    assert config["tie_word_embeddings"] is False and config["activation_function"] == "gelu_new"
