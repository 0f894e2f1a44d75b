"""Checks of the exercises of chapter 3."""

import math

import torch
from torch import nn

from shared.exercises import ClaimFailed, claim, close, exercise, must_raise, same


def _not_allowed(*args, **kwargs):
    raise ClaimFailed("it is to be done without PyTorch's own softmax")


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@exercise("3.1")
def weights_copied(copy_weights, v1_class, v2_class):
    for d_in, d_out in [(3, 2), (2, 5), (4, 4), (3, 1)]:
        torch.manual_seed(d_in)
        v2, v1 = v2_class(d_in, d_out), v1_class(d_in, d_out)
        x = _random(6, d_in)
        claim(not torch.allclose(v1(x), v2(x)), "before copying, the two versions differ")
        before = [weight.detach().clone() for weight in v2.parameters()]
        copy_weights(v2, v1)
        for name in ("W_query", "W_key", "W_value"):
            got = getattr(v1, name)
            trainable = isinstance(got, torch.nn.Parameter) and got.requires_grad
            claim(trainable, f"v1.{name} is still an nn.Parameter that can be trained")
            same(tuple(got.shape), (d_in, d_out), f"v1.{name} has shape (d_in, d_out), also where the two differ")
        close(v1(x).detach(), v2(x).detach(), f"afterwards both give the same output (d_in={d_in}, d_out={d_out})")
        for weight, old in zip(v2.parameters(), before):
            close(weight.detach(), old, "v2 keeps its weights")
        with torch.no_grad():
            output = v1(x).clone()
            for weight in v2.parameters():
                weight.add_(1.0)
        close(v1(x).detach(), output, "changing v2 afterwards leaves v1 alone: they share no memory")


@exercise("3.2")
def narrow_wrapper_built(narrow_wrapper, wrapper_class):
    wrapper = narrow_wrapper()
    claim(isinstance(wrapper, wrapper_class), f"it returns a {wrapper_class.__name__}")
    same(len(wrapper.heads), 2, "there are still two heads")
    same(wrapper.heads[0].W_query.in_features, 3, "it takes 3 numbers per token")
    same(len(wrapper.heads[0].mask), 6, "it takes texts of up to 6 tokens")
    claim(wrapper.heads[0].W_query.bias is None, "as before, queries, keys and values have no bias")
    x = _random(2, 6, 3)
    same(tuple(wrapper(x).shape), (2, 6, 2), "for input (2, 6, 3) the output has shape (2, 6, 2)")
    close(wrapper.train()(x).detach(), wrapper.eval()(x).detach(), "nothing is dropped, also not in training")


@exercise("3.3")
def gpt2_attention_built(gpt2_attention, attention_class):
    attention = gpt2_attention()
    claim(isinstance(attention, attention_class), f"it returns a {attention_class.__name__}")
    same(attention.num_heads, 12, "there are 12 heads")
    same(attention.head_dim, 64, "each head has 768 / 12 = 64 numbers")
    same(sum(p.numel() for p in attention.parameters()), 2_360_064, "it has 2,360,064 parameters")
    same(attention.dropout.p, 0.0, "the dropout rate is 0")
    same(attention.W_query.in_features, 768, "it takes 768 numbers per token")
    same(len(attention.mask), 1024, "it takes texts of up to 1,024 tokens")
    with torch.no_grad():
        same(tuple(attention(_random(1, 1024, 768)).shape), (1, 1024, 768), "it takes a text of 1,024 tokens")
        must_raise(ValueError, "a text of 1,025 tokens is refused", attention, _random(1, 1025, 768))


@exercise("3.4")
def softmax_of_rows(softmax_rows):
    simple = torch.tensor([[0.0, math.log(3.0)], [1000.0, -math.inf]])
    want = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    before = simple.clone()
    got = softmax_rows(simple)
    claim(isinstance(got, torch.Tensor), f"softmax_rows returns a tensor; yours returned a {type(got).__name__}")
    claim(not got.isnan().any(), "there is no 'not a number', also with a score of 1,000 or minus infinity")
    close(got, want, "the example worked by hand comes out")
    claim(torch.equal(simple, before), "the caller's scores are left alone")
    for shape in [(7,), (3, 5), (2, 3, 4), (2, 3, 4, 5)]:
        scores = 30 * _random(*shape, seed=len(shape))
        got = softmax_rows(scores)
        close(got.sum(dim=-1), torch.ones(shape[:-1]), f"rows along the last dimension sum to 1, for shape {shape}")
        close(got, torch.softmax(scores, dim=-1), f"the weights are those of a softmax, for shape {shape}")
    far_down = softmax_rows(torch.tensor([-1e6, -math.inf]))
    close(far_down, torch.tensor([1.0, 0.0]), "-inf gets weight 0 beside any number, however negative")
    close(softmax_rows(torch.tensor([-1000.0, -1000.0])), torch.tensor([0.5, 0.5]), "very negative scores work as well")
    large = softmax_rows(torch.tensor([1000.0, 1001.0]))
    close(large, torch.tensor([0.2689, 0.7311]), "scores of 1,000 and 1,001 are told apart", 1e-4)
    claim(softmax_rows(simple.clone().requires_grad_()).requires_grad, "gradients pass through")
    names = "log_softmax softmax".split()
    kept = [(place, name, getattr(place, name)) for place in (torch, torch.Tensor, nn.functional) for name in names]
    try:
        for place, name, _ in kept:
            setattr(place, name, _not_allowed)
        softmax_rows(torch.tensor([0.0, 1.0]))
    finally:
        for place, name, function in kept:
            setattr(place, name, function)


@exercise("3.5")
def window_masks(window_mask):
    by_hand = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 0]]).bool()
    got = window_mask(4, 2)
    claim(isinstance(got, torch.Tensor), f"window_mask returns a tensor; yours returned a {type(got).__name__}")
    same(got.dtype, torch.bool, "the mask is of bool")
    same(tuple(got.shape), (4, 4), "for 4 tokens the mask has shape (4, 4)")
    claim(not got.diagonal().any(), "every token sees itself")
    claim(got.triu(1).sum() == 6, "the future is hidden")
    same(got.tolist(), by_hand.tolist(), "the example worked by hand comes out")
    for n_tokens, window in [(1, 1), (5, 1), (5, 3), (6, 6), (4, 9)]:
        want = [[not 0 <= row - column < window for column in range(n_tokens)] for row in range(n_tokens)]
        same(window_mask(n_tokens, window).tolist(), want, f"it is right for {n_tokens} tokens, a window of {window}")


@exercise("3.6")
def last_token(attend_last):
    keys = torch.tensor([[math.log(3), 0, 0, 0], [0, 5, 0, 0]])
    got = attend_last(torch.tensor([2.0, 0, 0, 0]), keys, torch.tensor([[4.0, 0], [0, 8]]))
    close(got, torch.tensor([3.0, 2.0]), "the example worked by hand comes out, with the scores divided by √K = 2")
    wide = attend_last(torch.tensor([1.0]), torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0, 2, 3], [3, 4, 5]]))
    close(wide, torch.tensor([2.0, 3.0, 4.0]), "values may be wider or narrower than keys")
    one = attend_last(torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 0], [0, 0]]), torch.tensor([[1.0], [3.0]]))
    same(tuple(one.shape), (1,), "the result is a vector also where values have one number: shape (V,) = (1,)")
    query, keys, values = _random(9, seed=4), _random(5, 9, seed=5), _random(5, 2, seed=6)
    given = query.clone(), keys.clone(), values.clone()
    want = torch.softmax(keys @ query / 3, dim=-1) @ values
    close(attend_last(query, keys, values), want, "the scores are divided by √K, which is 3 for K = 9")
    unchanged = all(torch.equal(now, before) for now, before in zip((query, keys, values), given))
    claim(unchanged, "the tensors that were given are left alone; a cache would go on with them")
    huge = torch.tensor([30.0, 30.0]), torch.tensor([[30.0, 30.0], [30.0, 29.9]]), torch.tensor([[1.0], [0.0]])
    close(attend_last(*huge), torch.tensor([0.8930]), "large scores do not overflow", 1e-3)
    for n_tokens, width in [(1, 4), (6, 3), (9, 16)]:
        queries, keys, values = (_random(n_tokens, width, seed=s) for s in (1, 2, 3))
        hidden = torch.ones(n_tokens, n_tokens).triu(1).bool()
        weights = torch.softmax((queries @ keys.T / math.sqrt(width)).masked_fill(hidden, -math.inf), dim=-1)
        got = attend_last(queries[-1], keys, values)
        same(tuple(got.shape), (width,), "the result is one vector of shape (V,)")
        close(got, (weights @ values)[-1], f"it is the last row of causal attention over {n_tokens} tokens")
