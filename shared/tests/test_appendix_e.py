"""Appendix E: LoRA by hand, against peft, put on, taken off, merged and saved; all at tiny sizes."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from shared.carry import load_chapter
from shared.measure import peak_tensor_memory

CFG = {"vocab_size": 50257, "context_length": 64, "emb_dim": 16, "n_heads": 4, "n_layers": 2, "drop_rate": 0.0}
CFG |= {"qkv_bias": True}
PAD = 50256


@pytest.fixture(scope="session")
def lora():
    """The code of chapters 2 to 6 and of appendix E as a module."""
    return load_chapter("appendix_e_lora")


def base_model(lora, seed=0):
    torch.manual_seed(seed)
    return lora.GPTModel(CFG).eval()


@pytest.fixture
def model(lora):
    """A tiny classifier with adapters whose B is no longer zero."""
    model = base_model(lora)
    lora.prepare_lora(model, rank=3, alpha=6)
    with torch.no_grad():
        for _, wrapped in lora.lora_layers(model):
            wrapped.lora.B.normal_(std=0.2)
    return model


def ids(*lengths):
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        rows[row, :length] = torch.arange(length) * 7 + row
    return rows


# One layer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("rank, alpha", [(1, 1), (2, 4), (8, 16), (3, 0.5)])
def test_the_addition_is_alpha_over_rank_times_x_a_b(lora, shape, rank, alpha):
    torch.manual_seed(0)
    layer = lora.LoRALayer(5, 7, rank, alpha)
    assert layer.A.shape == (5, rank) and layer.B.shape == (rank, 7)
    x = torch.randn(shape)
    assert layer(x).shape == (*shape[:-1], 7) and not layer(x).any()       # B is zero
    with torch.no_grad():
        layer.B.normal_()
    torch.testing.assert_close(layer(x), alpha / rank * (x @ layer.A @ layer.B))


def test_a_begins_with_the_spread_of_a_linear_layer_whatever_the_rank(lora):
    torch.manual_seed(0)
    for rank in (4, 64):
        A = lora.LoRALayer(400, 400, rank, 1).A
        assert A.abs().max() <= 1 / 20 and A.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)


@pytest.mark.parametrize("rank", [0, -1, 1.5, True])
def test_ranks_that_are_no_ranks_are_refused(lora, rank):
    with pytest.raises(ValueError, match="rank must be a whole number, 1 or more"):
        lora.LoRALayer(5, 5, rank, 1)


def test_at_the_first_step_only_b_has_a_gradient_and_with_both_zero_nothing_ever_learns(lora):
    torch.manual_seed(0)
    layer, x = lora.LinearWithLoRA(nn.Linear(4, 3), 2, 2), torch.randn(5, 4)
    layer(x).square().sum().backward()
    assert not layer.lora.A.grad.any() and layer.lora.B.grad.any()
    layer.zero_grad()
    with torch.no_grad():
        layer.lora.A.zero_()
    layer(x).square().sum().backward()
    assert not layer.lora.A.grad.any() and not layer.lora.B.grad.any()


def test_a_wrapped_layer_takes_device_and_type_of_its_linear(lora):
    wrapped = lora.LinearWithLoRA(nn.Linear(4, 3, dtype=torch.float64), 2, 2)
    assert wrapped.lora.A.dtype == wrapped.lora.B.dtype == torch.float64
    assert (wrapped.in_features, wrapped.out_features) == (4, 3)
    assert lora.LinearWithLoRA(nn.Linear(4, 3, device="meta"), 2, 2).lora.A.device.type == "meta"


# A whole model -------------------------------------------------------------------------------------------


def test_every_linear_layer_is_reached_and_the_output_is_unchanged(lora):
    model = base_model(lora)
    before, n_linear = model(ids(5)), sum(isinstance(part, nn.Linear) for part in model.modules())
    assert lora.replace_linear_with_lora(model, 4, 8) is None
    assert len(lora.lora_layers(model)) == n_linear == 2 * 6 + 1
    assert torch.equal(model(ids(5)), before)


def test_a_second_replacement_changes_nothing(lora, model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    scores = lora.class_logits(model, ids(5, 3))
    lora.replace_linear_with_lora(model.trf_blocks, 3, 6)
    lora.replace_linear_with_lora(model.trf_blocks, 8, 1)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert {name: p.requires_grad for name, p in after.items()} == flags
    assert torch.equal(lora.class_logits(model, ids(5, 3)), scores)


def test_preparing_twice_leaves_the_same_parts_learning(lora, model):
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora." in name or name.startswith("out_head") for name in learning) and len(learning) == 2 * 6 * 2 + 2
    lora.prepare_lora(model, rank=3, alpha=6)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learning
    assert isinstance(model.out_head, nn.Linear)                        # trained whole, not wrapped


def test_only_the_layers_that_are_named(lora):
    model = base_model(lora)
    lora.replace_linear_with_lora(model, 2, 2, targets=("W_query", "W_value"))
    names = [name for name, _ in lora.lora_layers(model)]
    assert len(names) == 4 and all(name.endswith(("W_query", "W_value")) for name in names)
    lora.replace_linear_with_lora(model, 2, 2, targets=("W_key",))
    assert len(lora.lora_layers(model)) == 6


@pytest.mark.parametrize("make, rank, alpha, words", [
    (lambda: nn.Sequential(nn.ReLU()), 2, 2, "no linear layer"),
    (lambda: nn.Linear(2, 2), 2, 2, "cannot be replaced inside itself"),
    (lambda: nn.Sequential(nn.Linear(2, 2)), 0, 2, "rank must be"),
    (lambda: nn.Sequential(nn.Linear(2, 2)), 2, 0, "alpha must be"),
])  # fmt: skip
def test_what_cannot_be_adapted_is_refused(lora, make, rank, alpha, words):
    with pytest.raises(ValueError, match=words):
        lora.replace_linear_with_lora(make(), rank, alpha)


def test_one_step_moves_the_adapters_and_the_head_only(lora, model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    lora.calc_class_loss_batch(ids(5, 3), torch.tensor([0, 1]), model, "cpu").backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("n_pads", [0, 1, 50])
def test_padding_changes_no_answer_with_adapters(lora, model, n_pads):
    padded = torch.cat([ids(6), torch.full((1, n_pads), PAD)], dim=1)
    torch.testing.assert_close(lora.class_logits(model, padded), lora.class_logits(model, ids(6)), atol=1e-5, rtol=0)


# Against peft --------------------------------------------------------------------------------------------


def with_peft(model, rank, alpha, targets):
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), model)


def test_same_outputs_and_gradients_as_peft_on_our_model(lora):
    """peft adapts the same GPTModel; with its A and B in ours, outputs and gradients agree to 1e-5."""
    targets = ["W_query", "W_key", "W_value", "out_proj", "layers.0", "layers.2"]
    theirs, ours = with_peft(base_model(lora), 4, 12, targets), base_model(lora)
    ours.requires_grad_(False)
    lora.replace_linear_with_lora(ours.trf_blocks, 4, 12)
    pairs = []
    for name, wrapped in lora.lora_layers(ours):
        other = theirs.get_submodule(name)
        with torch.no_grad():
            other.lora_B["default"].weight.normal_(std=0.2)
            wrapped.lora.A.copy_(other.lora_A["default"].weight.T)
            wrapped.lora.B.copy_(other.lora_B["default"].weight.T)
        pairs.append((name, wrapped.lora, other))
    assert len(pairs) == 12
    torch.testing.assert_close(ours(ids(9)), theirs(ids(9)), atol=1e-5, rtol=0)
    for model in (ours, theirs):
        model(ids(9)).square().mean().backward()
    for name, mine, other in pairs:
        for got, want in ((mine.A.grad, other.lora_A["default"].weight.grad.T),
                          (mine.B.grad, other.lora_B["default"].weight.grad.T)):  # fmt: skip
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    trainable = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    assert trainable == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


def test_same_outputs_as_peft_on_the_gpt2_of_transformers(lora, tmp_path):
    """The same weights in transformers' GPT-2, adapted by peft there and by us here, merged and unmerged."""
    from transformers import GPT2LMHeadModel

    ours = base_model(lora)
    lora.export_gpt2(ours, CFG, tmp_path)
    targets = ["attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    theirs = with_peft(GPT2LMHeadModel.from_pretrained(tmp_path).eval(), 4, 8, targets)
    lora.replace_linear_with_lora(ours.trf_blocks, 4, 8, targets=("out_proj", "0", "2"))
    places = {"att.out_proj": "attn.c_proj", "ff.layers.0": "mlp.c_fc", "ff.layers.2": "mlp.c_proj"}
    for name, wrapped in lora.lora_layers(ours):
        number, _, place = name.removeprefix("trf_blocks.").partition(".")
        other = theirs.get_submodule(f"transformer.h.{number}.{places[place]}")
        with torch.no_grad():
            other.lora_B["default"].weight.normal_(std=0.2)
            wrapped.lora.A.copy_(other.lora_A["default"].weight.T)
            wrapped.lora.B.copy_(other.lora_B["default"].weight.T)
    expected = theirs(ids(9)).logits
    torch.testing.assert_close(ours(ids(9)), expected, atol=1e-5, rtol=0)
    lora.merge_lora(ours)
    torch.testing.assert_close(ours(ids(9)), expected, atol=1e-5, rtol=0)


# Merged, saved, changed ----------------------------------------------------------------------------------


def test_merged_is_unmerged_and_a_plain_model(lora, model):
    scores = lora.class_logits(model, ids(9, 4))
    merged = copy.deepcopy(model)
    assert lora.merge_lora(merged) is None
    torch.testing.assert_close(lora.class_logits(merged, ids(9, 4)), scores, atol=1e-5, rtol=0)
    assert not lora.lora_layers(merged)
    assert merged.state_dict().keys() == {**base_model(lora).state_dict(), "out_head.bias": 0}.keys()
    again = {name: value.clone() for name, value in merged.state_dict().items()}
    lora.merge_lora(merged)
    assert all(torch.equal(value, again[name]) for name, value in merged.state_dict().items())


def test_a_bare_model_at_the_top_can_be_merged(lora):
    model = nn.Sequential(nn.Linear(3, 4))
    lora.replace_linear_with_lora(model, 2, 2)
    with torch.no_grad():
        model[0].lora.B.normal_()
    x = torch.randn(2, 3)
    before = model(x)
    lora.merge_lora(model)
    torch.testing.assert_close(model(x), before)


def fresh(lora, seed=0, rank=3, alpha=6, targets=None):
    model = base_model(lora, seed)
    torch.manual_seed(99)
    lora.prepare_lora(model, rank, alpha, targets=targets)
    return model


def test_an_adapter_is_saved_alone_and_loaded_exactly(lora, model, tmp_path):
    lora.save_adapter(model, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert tensors.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    other = fresh(lora)
    assert not torch.equal(lora.class_logits(other, ids(5)), lora.class_logits(model, ids(5)))
    lora.load_adapter(other, tmp_path / "a.safetensors")
    assert torch.equal(lora.class_logits(other, ids(5)), lora.class_logits(model, ids(5)))
    assert all(p.requires_grad for name, p in other.named_parameters() if ".lora." in name)


def test_adapters_can_be_changed_and_put_back(lora, model, tmp_path):
    lora.save_adapter(model, tmp_path / "a")
    scores = lora.class_logits(model, ids(5, 2))
    second = fresh(lora)
    with torch.no_grad():
        for _, wrapped in lora.lora_layers(second):
            wrapped.lora.B.fill_(0.3)
    lora.save_adapter(second, tmp_path / "b")
    lora.load_adapter(model, tmp_path / "b")
    assert torch.equal(lora.class_logits(model, ids(5, 2)), lora.class_logits(second, ids(5, 2)))
    lora.load_adapter(model, tmp_path / "a")
    assert torch.equal(lora.class_logits(model, ids(5, 2)), scores)


@pytest.mark.parametrize("changes, words", [
    ({"seed": 1}, "base model"),
    ({"rank": 2}, r"is \(16, 3\) in the file and \(16, 2\) in the model"),
    ({"alpha": 3}, "scale alpha / rank 2.0, this model has 1.0"),
    ({"targets": ("W_query",)}, "the model has no trf_blocks"),
])  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(lora, model, tmp_path, changes, words):
    lora.save_adapter(model, tmp_path / "a")
    other = fresh(lora, **changes)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(ValueError, match=f"a does not fit: .*{words}"):
        lora.load_adapter(other, tmp_path / "a")
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())


def test_a_file_with_one_tensor_too_few_changes_nothing(lora, model, tmp_path):
    tensors, settings = lora.adapter_of(model)
    tensors.pop("out_head.bias")
    save_file(tensors, tmp_path / "a", metadata=settings)
    other = fresh(lora)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(ValueError, match="the file has no out_head.bias"):
        lora.load_adapter(other, tmp_path / "a")
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())


def test_the_fingerprint_is_of_the_frozen_weights(lora, model):
    before = lora.fingerprint(model)
    with torch.no_grad():
        model.trf_blocks[0].att.W_query.lora.B.add_(1)
    assert lora.fingerprint(model) == before
    with torch.no_grad():
        model.trf_blocks[0].att.W_query.linear.weight[0, 0] += 1e-3
    assert lora.fingerprint(model) != before


# Memory --------------------------------------------------------------------------------------------------


def test_peak_memory_of_tensors_is_exact():
    def work():
        a = torch.zeros(1000, 250)      # 1 MB
        del a
        b = torch.zeros(500_000)        # 2 MB
        return b, torch.zeros(250_000)  # and 1 MB more

    (b, c), peak = peak_tensor_memory(work)
    assert peak == pytest.approx(3.0, abs=0.01) and len(b) == 500_000 and len(c) == 250_000
