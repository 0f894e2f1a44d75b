"""Chapter 3's attention against PyTorch's own, against plain loops, and by its properties."""

import math

import pytest
import torch
from torch import nn

from shared.checkpoints import without_masks

SIZES = {"d_in": 8, "d_out": 8, "context_length": 16, "dropout": 0.0}


@pytest.fixture(scope="module")
def ch03():
    from shared.carry import load_chapter

    return load_chapter("ch03_attention")


def build(ch03, name, **changes):
    """An attention module by name, small, with seeded weights."""
    torch.manual_seed(11)
    settings = SIZES | changes
    if name != "CausalAttention":
        settings = {"num_heads": 2, **settings}
    return getattr(ch03, name)(**settings)


CAUSAL = ["CausalAttention", "MultiHeadAttentionWrapper", "MultiHeadAttention", "FusedMultiHeadAttention"]
JOINT = ["MultiHeadAttention", "FusedMultiHeadAttention"]


def gradients(output, inputs):
    """Gradients of a weighted sum of the output, so that no two places count the same."""
    weights = torch.arange(1, output.numel() + 1, dtype=output.dtype).reshape(output.shape) / output.numel()
    return torch.autograd.grad((output * weights).sum(), inputs)


# The unmasked classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SelfAttention_v1", "SelfAttention_v2"])
def test_self_attention_against_loops(ch03, name):
    torch.manual_seed(2)
    module, x = getattr(ch03, name)(5, 3), torch.randn(7, 5)
    matrices = [getattr(module, n) if name.endswith("1") else getattr(module, n).weight.T for n in
                ("W_query", "W_key", "W_value")]  # fmt: skip
    queries, keys, values = (x @ matrix for matrix in matrices)
    for i in range(7):
        powers = [math.exp((queries[i] @ keys[j]).item() / math.sqrt(3)) for j in range(7)]
        want = sum(p / sum(powers) * values[j] for j, p in enumerate(powers))
        torch.testing.assert_close(module(x)[i], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["SelfAttention_v1", "SelfAttention_v2"])
def test_self_attention_does_not_know_the_order(ch03, name):
    torch.manual_seed(2)
    module, x, order = getattr(ch03, name)(5, 3), torch.randn(7, 5), torch.randperm(7)
    torch.testing.assert_close(module(x[order]), module(x)[order])
    for bad in (torch.randn(2, 7, 5), torch.randn(7, 4), torch.randn(5)):
        with pytest.raises(ValueError, match=r"shape \(T, 5\)"):
            module(bad)


# Causal attention ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_no_output_depends_on_a_later_token(ch03, name):
    """At every length 1 to 16: move one token, and exactly the outputs before it stay."""
    module = build(ch03, name).eval()
    for length in range(1, 17):
        x = torch.randn(2, length, 8, generator=torch.Generator().manual_seed(length))
        before = module(x)
        for place in range(length):
            edited = x.clone()
            edited[:, place] += 1.0
            moved = (module(edited) - before).abs().amax(dim=(0, 2)) > 1e-6
            assert moved.tolist() == [False] * place + [True] * (length - place), (length, place)


@pytest.mark.parametrize("name", CAUSAL)
def test_first_position_is_its_own_value(ch03, name):
    module, x = build(ch03, name).eval(), torch.randn(1, 5, 8)
    torch.testing.assert_close(module(x)[:, :1], module(x[:, :1]))


@pytest.mark.parametrize("name", CAUSAL)
def test_texts_of_a_batch_do_not_mix(ch03, name):
    module, x = build(ch03, name).eval(), torch.randn(3, 6, 8)
    torch.testing.assert_close(module(x), torch.cat([module(x[i : i + 1]) for i in range(3)]))


@pytest.mark.parametrize("name", CAUSAL)
def test_bad_input_is_refused_with_its_numbers(ch03, name):
    module = build(ch03, name)
    with pytest.raises(ValueError, match=r"1 to 16 tokens \(the context length\), got 17"):
        module(torch.randn(1, 17, 8))
    with pytest.raises(ValueError, match="1 to 16 tokens .* got 0"):
        module(torch.randn(1, 0, 8))
    with pytest.raises(ValueError, match=r"\(batch, tokens, 8\), got \(16, 8\)"):
        module(torch.randn(16, 8))
    with pytest.raises(ValueError, match=r"got \(1, 4, 9\)"):
        module(torch.randn(1, 4, 9))
    with pytest.raises(ValueError, match="int64.*embedded"):
        module(torch.zeros(1, 4, 8, dtype=torch.int64))
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="dropout rate must be at least 0 and below 1"):
            build(ch03, name, dropout=rate)


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("d_out, heads", [(8, 3), (8, 0), (8, -2), (6, 4)])
def test_width_that_the_heads_cannot_share_is_refused(ch03, name, d_out, heads):
    with pytest.raises(ValueError, match=f"{d_out} is not divisible by {heads}"):
        build(ch03, name, d_out=d_out, num_heads=heads)


def test_wrapper_without_heads_is_refused(ch03):
    with pytest.raises(ValueError, match="num_heads must be a whole number, 1 or more; it is 0"):
        build(ch03, "MultiHeadAttentionWrapper", num_heads=0)


def test_widths_of_wrapper_and_joint_module(ch03):
    """d_out is per head in the wrapper and the total in MultiHeadAttention."""
    x = torch.randn(2, 6, 8)
    assert build(ch03, "MultiHeadAttentionWrapper", d_out=2)(x).shape == (2, 6, 4)
    assert build(ch03, "MultiHeadAttention", d_out=4)(x).shape == (2, 6, 4)
    assert build(ch03, "MultiHeadAttention", d_out=4).head_dim == 2


# Against other implementations ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("heads, length", [(1, 16), (2, 5), (4, 16), (8, 1)])
def test_against_pytorchs_multihead_attention(ch03, name, heads, length):
    ours = build(ch03, name, num_heads=heads, qkv_bias=True)
    theirs = nn.MultiheadAttention(8, heads, bias=True, batch_first=True)
    layers = [ours.W_query, ours.W_key, ours.W_value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    x = torch.randn(3, length, 8, requires_grad=True)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    out, reference = ours(x), theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-5)
    got = gradients(out, [x, *(p for layer in layers for p in (layer.weight, layer.bias)), *ours.out_proj.parameters()])
    want = gradients(reference, [x, theirs.in_proj_weight, theirs.in_proj_bias, *theirs.out_proj.parameters()])
    torch.testing.assert_close(got[0], want[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(got[1:7:2]), want[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(got[2:8:2]), want[2], atol=1e-5, rtol=1e-5)
    for ours_grad, theirs_grad in zip(got[7:], want[3:]):
        torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-5, rtol=1e-5)


def by_three_loops(module, x):
    """Multi-head attention as nested loops over texts, heads and positions."""
    outputs = []
    for text in x:
        joined = []
        for t in range(len(text)):
            heads = []
            for h in range(module.num_heads):
                part = slice(h * module.head_dim, (h + 1) * module.head_dim)
                query = module.W_query(text[t])[part]
                scores = torch.stack([query @ module.W_key(text[s])[part] for s in range(t + 1)])
                powers = (scores / math.sqrt(module.head_dim)).exp()
                values = torch.stack([module.W_value(text[s])[part] for s in range(t + 1)])
                heads.append(((powers / powers.sum())[:, None] * values).sum(dim=0))
            joined.append(torch.cat(heads))
        outputs.append(module.out_proj(torch.stack(joined)))
    return torch.stack(outputs)


@pytest.mark.parametrize("name", JOINT)
def test_against_a_triple_loop(ch03, name):
    module, x = build(ch03, name, num_heads=4), torch.randn(2, 6, 8, requires_grad=True)
    out, reference = module(x), by_three_loops(module, x)
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-5)
    inputs = [x, *module.parameters()]
    for got, want in zip(gradients(out, inputs), gradients(reference, inputs)):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_fused_equals_plain_in_values_and_gradients(ch03, length):
    plain, fused = build(ch03, "MultiHeadAttention"), build(ch03, "FusedMultiHeadAttention")
    x = torch.randn(2, length, 8, requires_grad=True)
    torch.testing.assert_close(plain(x), fused(x), atol=1e-5, rtol=1e-5)
    pairs = zip(gradients(plain(x), [x, *plain.parameters()]), gradients(fused(x), [x, *fused.parameters()]))
    for got, want in pairs:
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_the_fused_class_overrides_one_method_only(ch03):
    own = {name for name in vars(ch03.FusedMultiHeadAttention) if not name.startswith("__")}
    assert own == {"context_vectors"}


def test_wrapper_with_the_same_weights_equals_the_joint_module(ch03):
    wrapper, joint = build(ch03, "MultiHeadAttentionWrapper", d_out=4), build(ch03, "MultiHeadAttention")
    with torch.no_grad():
        for name in ("W_query", "W_key", "W_value"):
            getattr(joint, name).weight.copy_(torch.cat([getattr(head, name).weight for head in wrapper.heads]))
        joint.out_proj.weight.copy_(torch.eye(8))
        joint.out_proj.bias.zero_()
    x = torch.randn(2, 9, 8)
    torch.testing.assert_close(joint(x), wrapper(x))


# Details -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOINT)
def test_attention_weights_are_shares_of_the_past(ch03, name):
    module, x = build(ch03, name), torch.randn(2, 9, 8)
    queries, keys, _ = module.project(x)
    weights = module.attention_weights(queries, keys)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 9))
    assert (weights.triu(1) == 0).all() and (weights.tril() > 0).sum() == 2 * 2 * 45


@pytest.mark.parametrize("name", CAUSAL)
def test_dropout_acts_in_training_only_and_keeps_the_mean(ch03, name):
    module, x = build(ch03, name, dropout=0.5), torch.randn(1, 16, 8)
    module.eval()
    torch.testing.assert_close(module(x), module(x))
    module.train()
    assert not torch.allclose(module(x), module(x))
    with torch.no_grad():
        mean = torch.stack([module(x) for _ in range(3_000)]).mean(dim=0)
        torch.testing.assert_close(mean, module.eval()(x), atol=0.06, rtol=0)  # the standard error is about 0.01


@pytest.mark.parametrize("name", CAUSAL)
def test_masks_are_not_stored_and_do_not_hinder_loading(ch03, name):
    module = build(ch03, name)
    assert not any(key.endswith("mask") for key in module.state_dict())
    longer = build(ch03, name, context_length=64)
    longer.load_state_dict(module.state_dict())
    # A file of another program may hold masks; where such files are read, they are left out.
    prefixes = [""] if name != "MultiHeadAttentionWrapper" else ["heads.0.", "heads.1."]
    stored = module.state_dict() | {f"{prefix}mask": torch.ones(5, 5) for prefix in prefixes}
    longer.load_state_dict(without_masks(stored))
    assert len(stored) == len(module.state_dict()) + len(prefixes)
    x = torch.randn(1, 16, 8)
    torch.testing.assert_close(longer.eval()(x), module.eval()(x))
    with pytest.raises(RuntimeError, match="W_query"):
        longer.load_state_dict({key: value for key, value in module.state_dict().items() if "W_query" not in key})


def test_parameters_are_created_in_the_fixed_order(ch03):
    module = build(ch03, "MultiHeadAttention", qkv_bias=True)
    layers = [name.split(".")[0] for name, _ in module.named_parameters()]
    assert list(dict.fromkeys(layers)) == ["W_query", "W_key", "W_value", "out_proj"]
    torch.manual_seed(5)
    first = nn.Linear(8, 8, bias=False).weight
    torch.manual_seed(5)
    assert torch.equal(ch03.MultiHeadAttention(8, 8, 4, 0.0, 2).W_query.weight, first)


def test_gpt2_size(ch03):
    with torch.device("meta"):
        plain = ch03.MultiHeadAttention(768, 768, 1024, 0.0, 12)
        biased = ch03.MultiHeadAttention(768, 768, 1024, 0.0, 12, qkv_bias=True)
    assert plain.head_dim == 64 and plain.mask.shape == (1024, 1024)
    assert sum(p.numel() for p in plain.parameters()) == 2_360_064 == 3 * 768**2 + 768**2 + 768
    assert sum(p.numel() for p in biased.parameters()) == 2_362_368
