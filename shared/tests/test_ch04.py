"""Chapter 4's model against PyTorch, against transformers' GPT-2, and by its properties."""

import copy
import math

import pytest
import torch
from torch import nn

from shared.checkpoints import without_masks

TINY = {
    "vocab_size": 97,
    "context_length": 16,
    "emb_dim": 24,
    "n_heads": 4,
    "n_layers": 3,
    "drop_rate": 0.0,
    "qkv_bias": True,
}


@pytest.fixture(scope="module")
def ch04():
    from shared.carry import load_chapter

    return load_chapter("ch04_gpt_model")


@pytest.fixture
def tiny(ch04):
    torch.manual_seed(3)
    return ch04.GPTModel(TINY).eval()


# Parts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (2, 6), (2, 3, 6)])
def test_layer_norm_equals_pytorchs_and_the_formula(ch04, shape):
    torch.manual_seed(1)
    x, ours, theirs = 5 * torch.randn(shape) + 2, ch04.LayerNorm(6), nn.LayerNorm(6, eps=1e-5)
    with torch.no_grad():
        ours.scale.copy_(torch.randn(6))
        ours.shift.copy_(torch.randn(6))
        theirs.weight.copy_(ours.scale)
        theirs.bias.copy_(ours.shift)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-6)
    centred = x - x.mean(dim=-1, keepdim=True)
    by_formula = ours.scale * centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() + ours.shift
    torch.testing.assert_close(ours(x), by_formula, atol=1e-5, rtol=1e-5)
    assert (ours.eps, list(ours.state_dict())) == (1e-5, ["scale", "shift"])


def test_gelu_is_the_approximation_by_tanh(ch04):
    x = torch.linspace(-8, 8, 4_001, dtype=torch.float64)
    formula = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    torch.testing.assert_close(ch04.GELU()(x), formula, atol=1e-12, rtol=1e-12)
    assert (ch04.GELU()(x) - nn.functional.gelu(x)).abs().max() > 1e-4  # and not the exact one
    assert not list(ch04.GELU().parameters())


def test_feed_forward_is_linear_gelu_linear(ch04):
    torch.manual_seed(1)
    ff, x = ch04.FeedForward({"emb_dim": 6}), torch.randn(2, 5, 6)
    up, down = ff.layers[0], ff.layers[2]
    hidden = nn.functional.gelu(x @ up.weight.T + up.bias, approximate="tanh")
    torch.testing.assert_close(ff(x), hidden @ down.weight.T + down.bias)
    assert up.weight.shape == (24, 6) and down.weight.shape == (6, 24)


def test_block_is_two_shortcuts_around_normalised_halves(ch04):
    torch.manual_seed(1)
    block, x = ch04.TransformerBlock(TINY).eval(), torch.randn(2, 5, 24)
    middle = x + block.att(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.ff(block.norm2(middle)))
    for name in ("norm1", "norm2"):  # both normalisations are in use, each in its place
        changed = copy.deepcopy(block)
        getattr(changed, name).scale.data.mul_(2)
        assert not torch.allclose(changed(x), block(x))


def test_attention_in_the_block_is_the_fused_one(ch04):
    assert type(ch04.TransformerBlock(TINY).att) is ch04.FusedMultiHeadAttention


# The model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(1, 17))
def test_no_logit_depends_on_a_later_token(tiny, length):
    ids = torch.randint(0, 97, (2, length), generator=torch.Generator().manual_seed(length))
    before = tiny(ids)
    for place in range(length):
        edited = ids.clone()
        edited[:, place] = (edited[:, place] + 1) % 97
        moved = (tiny(edited) - before).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [False] * place + [True] * (length - place)


def copy_from_transformers(theirs, ours):
    """Put the weights of transformers' GPT-2 into ours; its Conv1D layers are stored as (in, out)."""
    source, pairs = theirs.state_dict(), {}
    for i in range(len(ours.trf_blocks)):
        old, new = f"transformer.h.{i}.", f"trf_blocks.{i}."
        for kind, turn in (("weight", lambda t: t.T), ("bias", lambda t: t)):
            parts = source[f"{old}attn.c_attn.{kind}"].chunk(3, dim=-1)
            for name, part in zip(("W_query", "W_key", "W_value"), parts):
                pairs[f"{new}att.{name}.{kind}"] = turn(part)
            pairs[f"{new}att.out_proj.{kind}"] = turn(source[f"{old}attn.c_proj.{kind}"])
            pairs[f"{new}ff.layers.0.{kind}"] = turn(source[f"{old}mlp.c_fc.{kind}"])
            pairs[f"{new}ff.layers.2.{kind}"] = turn(source[f"{old}mlp.c_proj.{kind}"])
        for ours_name, theirs_name in (("norm1", "ln_1"), ("norm2", "ln_2")):
            pairs[f"{new}{ours_name}.scale"] = source[f"{old}{theirs_name}.weight"]
            pairs[f"{new}{ours_name}.shift"] = source[f"{old}{theirs_name}.bias"]
    pairs["tok_emb.weight"] = pairs["out_head.weight"] = source["transformer.wte.weight"]
    pairs["pos_emb.weight"] = source["transformer.wpe.weight"]
    pairs["final_norm.scale"], pairs["final_norm.shift"] = (source[f"transformer.ln_f.{k}"] for k in ("weight", "bias"))
    ours.load_state_dict(pairs)


def test_same_logits_as_transformers_gpt2(ch04):
    import transformers

    config = transformers.GPT2Config(vocab_size=97, n_positions=16, n_embd=24, n_layer=3, n_head=4)
    torch.manual_seed(8)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # also biases and normalisations, which start at 0 and 1
            parameter.add_(0.1 * torch.randn(parameter.shape))
    ours = ch04.GPTModel({**TINY, "tie_weights": True}).eval()
    copy_from_transformers(theirs, ours)
    for length in (1, 7, 16):
        ids = torch.randint(0, 97, (3, length))
        with torch.no_grad():
            torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "ids, words",
    [
        (torch.zeros(5, dtype=torch.int64), r"\(batch, tokens\), got \(5,\)"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), r"got \(1, 2, 3\)"),
        (torch.zeros(0, 5, dtype=torch.int64), r"got \(0, 5\)"),
        ([[1, 2]], "got list"),
        (torch.zeros(1, 5), "not torch.float32"),
        (torch.zeros(1, 5, dtype=torch.bool), "not torch.bool"),
        (torch.zeros(1, 17, dtype=torch.int64), "17 tokens do not fit: the context length is 16"),
        (torch.zeros(1, 0, dtype=torch.int64), "0 tokens do not fit"),
        (torch.tensor([[3, 97]]), "id 97 is not in the vocabulary, whose ids run from 0 to 96"),
        (torch.tensor([[-1, 3]]), "id -1 is not in the vocabulary"),
    ],
)
def test_bad_ids_are_refused_with_their_numbers(tiny, ids, words):
    with pytest.raises(ValueError, match=words):
        tiny(ids)


def test_32_bit_ids_are_accepted(tiny):
    ids = torch.arange(6).reshape(1, 6)
    assert torch.equal(tiny(ids.int()), tiny(ids))


@pytest.mark.parametrize(
    "change, words",
    [({"n_heads": 5}, "24 is not divisible by 5"), ({"drop_rate": 1.0}, "it is 1.0"), ({"drop_rate": -0.1}, "is -0.1")],
)
def test_bad_configs_are_refused_with_their_numbers(ch04, change, words):
    with pytest.raises(ValueError, match=words):
        ch04.GPTModel({**TINY, **change})
    with pytest.raises(ValueError, match=words):
        ch04.TransformerBlock({**TINY, **change})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1; it is 0"),
        ({"n_heads": 4.0}, "n_heads must be a whole number .* 4.0"),
        ({"emb_dim": True}, "emb_dim must be a whole number"),
        ({"qkv_bias": "False"}, "qkv_bias must be True or False; it is 'False'"),
        ({"tie_weights": "no"}, "tie_weights must be True or False"),
        ({"tie_weight": True}, "unknown entry tie_weight"),
    ],
)
def test_configs_with_other_entries_are_refused_by_name(ch04, change, words):
    with pytest.raises(ValueError, match=words):
        ch04.GPTModel({**TINY, **change})
    for name in TINY:
        with pytest.raises(ValueError, match=f"lacks {name}"):
            ch04.GPTModel({key: value for key, value in TINY.items() if key != name})


def test_block_refuses_what_it_cannot_read(ch04):
    block = ch04.TransformerBlock(TINY)
    for bad in (torch.randn(1, 4, 23), torch.randn(4, 24), torch.randn(1, 17, 24), torch.zeros(1, 4, 24).long()):
        with pytest.raises(ValueError):
            block(bad)


def test_a_fresh_tied_model_knows_nothing_either(ch04):
    torch.manual_seed(123)
    model = ch04.GPTModel({**TINY, "vocab_size": 5_000, "emb_dim": 96, "tie_weights": True}).eval()
    ids = torch.randint(0, 5_000, (8, 16))
    loss = nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(5_000)) < 0.4


def test_names_and_order_of_creation(ch04):
    names = [name for name, _ in ch04.GPTModel({**TINY, "n_layers": 1}).named_parameters()]
    linear = ["weight", "bias"]
    block = [f"att.{n}.{k}" for n in ("W_query", "W_key", "W_value", "out_proj") for k in linear]
    block += [f"ff.layers.{i}.{k}" for i in (0, 2) for k in linear]
    block += [f"norm{i}.{k}" for i in (1, 2) for k in ("scale", "shift")]
    want = ["tok_emb.weight", "pos_emb.weight", *(f"trf_blocks.0.{n}" for n in block)]
    assert names == [*want, "final_norm.scale", "final_norm.shift", "out_head.weight"]


def test_a_checkpoint_loads_at_any_context_and_with_old_masks(ch04, tiny):
    state = tiny.state_dict()
    assert not any("mask" in key for key in state)
    with_masks = {**state, **{f"trf_blocks.{i}.att.mask": torch.ones(1024, 1024) for i in range(3)}}
    other = ch04.GPTModel(TINY).eval()
    other.load_state_dict(without_masks(with_masks))
    ids = torch.arange(16).reshape(1, 16)
    torch.testing.assert_close(other(ids), tiny(ids))


def test_tied_weights_stay_tied_through_saving_and_loading(ch04, tmp_path):
    tied = ch04.GPTModel({**TINY, "tie_weights": True})
    torch.save(tied.state_dict(), tmp_path / "m.pt")
    again = ch04.GPTModel({**TINY, "tie_weights": True})
    again.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    assert again.out_head.weight.data_ptr() == again.tok_emb.weight.data_ptr()
    unique = {p.data_ptr(): p.numel() for p in again.parameters()}
    untied = sum(p.numel() for p in ch04.GPTModel(TINY).parameters())
    assert sum(unique.values()) == untied - 97 * 24
    again(torch.tensor([[1, 2]])).sum().backward()
    assert again.tok_emb.weight.grad is again.out_head.weight.grad


def test_dropout_in_all_three_places(ch04):
    model = ch04.GPTModel({**TINY, "drop_rate": 0.3})
    assert {p.p for p in model.modules() if isinstance(p, nn.Dropout)} == {0.3}
    ids = torch.arange(8).reshape(1, 8)
    for place in ("drop_emb", "att.dropout", "drop_shortcut"):
        only = copy.deepcopy(model).train()
        for name, part in only.named_modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.5 if name.endswith(place) else 0.0
        assert not torch.allclose(only(ids), only(ids)), place
        assert torch.equal(only.eval()(ids), only(ids))


def test_a_block_drops_both_of_its_halves(ch04):
    """With everything dropped in front of the additions, only the shortcuts are left."""
    block = ch04.TransformerBlock(TINY).train()
    block.drop_shortcut.p = 1.0
    x = torch.randn(2, 4, TINY["emb_dim"])
    assert torch.equal(block(x), x) and not torch.equal(block.eval()(x), x)


@pytest.mark.parametrize(
    "name, size, counts",
    [
        ("small", (768, 12, 12), (163_009_536, 124_412_160, 124_439_808)),
        ("medium", (1024, 24, 16), (406_212_608, 354_749_440, 354_823_168)),
        ("large", (1280, 36, 20), (838_220_800, 773_891_840, 774_030_080)),
        ("xl", (1600, 48, 25), (1_637_792_000, 1_557_380_800, 1_557_611_200)),
    ],
)
def test_sizes_of_gpt2(ch04, name, size, counts):
    def total(**changes):
        keys = ("emb_dim", "n_layers", "n_heads")
        with torch.device("meta"):
            model = ch04.GPTModel({**ch04.GPT_CONFIG_124M, **dict(zip(keys, size)), **changes})
        return sum(p.numel() for p in model.parameters())

    assert (total(), total(tie_weights=True), total(tie_weights=True, qkv_bias=True)) == counts


def test_a_fresh_model_knows_nothing(ch04):
    """Its loss is near ln V, so its start is not far too sure of anything."""
    torch.manual_seed(123)
    model = ch04.GPTModel({**TINY, "vocab_size": 5_000, "emb_dim": 96}).eval()
    ids = torch.randint(0, 5_000, (8, 16))
    loss = nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(5_000)) < 0.4


# Generating ----------------------------------------------------------------------------------------------


def test_generation_against_a_loop_without_cleverness(ch04, tiny):
    for context in (16, 5, 1):
        ids = torch.randint(0, 97, (3, 4), generator=torch.Generator().manual_seed(2))
        got = ch04.generate_text_simple(tiny, ids, 20, context)
        for row in range(3):
            text = ids[row].tolist()
            for _ in range(20):
                probabilities = torch.softmax(tiny(torch.tensor([text[-context:]]))[0, -1], dim=-1)
                text.append(int(probabilities.argmax()))
            assert got[row].tolist() == text


def test_generation_leaves_mode_gradients_and_input_alone(ch04, tiny):
    ids = torch.tensor([[1, 2, 3]])
    before = ids.clone()
    tiny.train()
    recorded = []
    hook = tiny.register_forward_hook(lambda module, inputs, logits: recorded.append(logits.requires_grad))
    ch04.generate_text_simple(tiny, ids, 2, 16)
    hook.remove()
    assert tiny.training and torch.equal(ids, before) and recorded == [False, False] and torch.is_grad_enabled()
    assert torch.equal(ch04.generate_text_simple(tiny, ids, 0, 16), ids)


@pytest.mark.parametrize(
    "ids, n, context, words",
    [
        (torch.tensor([1, 2]), 3, 16, r"got \(2,\)"),
        (torch.zeros(1, 0, dtype=torch.int64), 3, 16, "at least one token"),
        (torch.tensor([[1]]), -1, 16, "max_new_tokens must be a whole number, 0 or more; it is -1"),
        (torch.tensor([[1]]), 3, 0, "context_size must be a whole number, 1 or more; it is 0"),
    ],
)
def test_generation_refuses_what_it_cannot_continue(ch04, tiny, ids, n, context, words):
    with pytest.raises(ValueError, match=words):
        ch04.generate_text_simple(tiny, ids, n, context)
