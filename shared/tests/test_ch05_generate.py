"""Chapter 5's decoding: the filters, the key-value cache, generate and beam search, on models of 2 layers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

V, CONTEXT = 23, 12
TINY = {"vocab_size": V, "context_length": CONTEXT, "emb_dim": 16, "n_heads": 4, "n_layers": 2, "drop_rate": 0.5}
TOY = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


@pytest.fixture(params=[False, True], ids=["plain", "bias and tied"])
def model(ch05, request):
    """A model in training mode with dropout 0.5: whoever forgets eval mode gives other tokens each time."""
    torch.manual_seed(4)
    return ch05.GPTModel(TINY | {"qkv_bias": request.param, "tie_weights": request.param})


class Table(nn.Module):
    """The next token depends on the last one only: row of logits by token."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, ids):
        return self.logits[ids]


def prompts(n_texts, n_tokens, seed=0):
    return torch.randint(0, V, (n_texts, n_tokens), generator=torch.Generator().manual_seed(seed))


# Filters -------------------------------------------------------------------------------------------------


def test_temperature_divides_the_logits(ch05):
    for temperature in (0.1, 0.7, 1, 5):
        want = torch.tensor([math.exp(x / temperature) for x in TOY.tolist()], dtype=torch.float64)
        got = ch05.softmax_with_temperature(TOY.double(), temperature)
        torch.testing.assert_close(got, want / want.sum())
    rows = torch.stack([TOY, TOY + 100, -TOY])      # along the last axis, and a constant changes nothing
    got = ch05.softmax_with_temperature(rows, 2.0)
    torch.testing.assert_close(got[0], got[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got.sum(dim=-1), torch.ones(3))


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-30, 1e30])
def test_extreme_temperatures_give_probabilities(ch05, temperature):
    masked = TOY.clone()
    masked[0] = -torch.inf
    got = ch05.softmax_with_temperature(masked, temperature)
    assert got.isfinite().all() and got[0] == 0 and got.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_no_softmax_for_this_temperature(ch05, temperature):
    with pytest.raises(ValueError, match=f"it is {temperature}"):
        ch05.softmax_with_temperature(TOY, temperature)


def test_exactly_k_are_kept(ch05):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randint(0, 4, (50, 9), generator=generator).float()      # many equal ones
    before = logits.clone()
    for k in (1, 2, 5, 9, 50):
        kept = ch05.keep_top_k(logits, k)
        assert (kept.isfinite().sum(dim=-1) == min(k, 9)).all()
        assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])
        if k < 9:
            dropped = torch.where(kept.isfinite(), -torch.inf, logits).amax(dim=-1)
            assert (kept.masked_fill(kept.isinf(), torch.inf).amin(dim=-1) >= dropped).all()
    assert torch.equal(logits, before)


def test_top_p_keeps_the_smallest_head_that_reaches_p(ch05):
    generator = torch.Generator().manual_seed(2)
    probabilities = torch.rand(40, 9, generator=generator, dtype=torch.float64).pow(4)
    probabilities /= probabilities.sum(dim=-1, keepdim=True)
    for p in (0.01, 0.3, 0.77, 0.999):
        kept = ch05.keep_top_p(probabilities, p)
        for row, given in zip(kept, probabilities):
            ranked, total, want = sorted(range(9), key=lambda i: -given[i]), 0.0, {}
            for token in ranked:
                want[token] = given[token].item()
                total += want[token]
                if total >= p:
                    break
            want = torch.tensor([want.get(token, 0.0) / total for token in range(9)], dtype=torch.float64)
            torch.testing.assert_close(row, want)
    assert torch.equal(ch05.keep_top_p(probabilities, 1), probabilities)


BAD = [{"temperature": -0.1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": 0}, {"top_k": -3}]
BAD += [{"top_k": 2.5}, {"top_k": True}, {"top_p": 0}, {"top_p": 1.1}, {"top_p": -0.5}, {"top_p": math.nan}]


@pytest.mark.parametrize("setting", BAD, ids=str)
def test_settings_that_make_no_sense_are_named(ch05, model, setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"{name} must be .* it is {value}"):
        ch05.generate(model, prompts(1, 3), 0, CONTEXT, **setting)      # also if nothing is to be written


def test_draws_follow_the_filters_in_their_order(ch05):
    """Top-k, then temperature, then top-p: at temperature 5 and k = 3 all three have more than 0.2."""
    rows = TOY.repeat(3_000, 1)
    torch.manual_seed(0)
    shares = ch05.choose_next(rows, 5.0, top_k=3).flatten().bincount(minlength=9) / 3_000
    want = torch.softmax(TOY[[3, 7, 0]] / 5, dim=-1)
    torch.testing.assert_close(shares[[3, 7, 0]], want, rtol=0, atol=0.03)
    # With p = 0.6 top-p keeps two of these three; before the temperature it would have kept two as well, but
    # with p = 0.57 one (0.5775) against two (0.39 + 0.36).
    torch.manual_seed(0)
    drawn = ch05.choose_next(rows, 5.0, top_k=3, top_p=0.57).flatten().unique().tolist()
    assert drawn == [3, 7]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_noticed(ch05, bad, temperature):
    logits = torch.zeros(2, 5)
    logits[1, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        ch05.generate(Table(logits), torch.tensor([[0], [1]]), 3, 4, temperature, use_cache=False)


# Cache ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[1] * 12, [12], [5, 1, 4, 2], [11, 1], [1, 11]], ids=str)
@pytest.mark.parametrize("n_texts", [1, 3])
def test_cached_logits_are_the_plain_ones_at_every_position(ch05, model, pieces, n_texts):
    ids = prompts(n_texts, CONTEXT)
    with ch05.eval_mode(model):
        plain = model(ids)
        for room in (CONTEXT, CONTEXT):      # a second cache begins empty
            cache = ch05.KeyValueCache(model, n_texts, room)
            for piece in ids.split(pieces, dim=1):
                logits = ch05.read_with_cache(model, piece, cache)
                torch.testing.assert_close(logits, plain[:, cache.length - 1], rtol=1e-5, atol=1e-5)
            assert cache.length == CONTEXT


def test_every_prefix_and_what_comes_after_the_context(ch05, model):
    ids = prompts(2, CONTEXT + 6)
    with ch05.eval_mode(model):
        cache = ch05.KeyValueCache(model, 2, CONTEXT)
        for n in range(1, CONTEXT + 7):
            want = model(ids[:, :n][:, -CONTEXT:])[:, -1]
            torch.testing.assert_close(ch05.last_logits(model, ids[:, :n], CONTEXT, cache), want, rtol=1e-5, atol=1e-5)


def test_a_cache_refuses_what_does_not_fit(ch05, model):
    model.eval()
    with pytest.raises(ValueError, match="13 tokens do not fit: the context length is 12"):
        ch05.KeyValueCache(model, 1, 13)
    cache = ch05.KeyValueCache(model, 2, 5)
    ch05.read_with_cache(model, prompts(2, 4), cache)
    for ids in (prompts(2, 2), prompts(3, 1)):
        with pytest.raises(ValueError, match="4 of at most 5 tokens, for 2 texts"):
            ch05.read_with_cache(model, ids, cache)
    with pytest.raises(ValueError, match=f"id {V} is not in the vocabulary"):
        ch05.read_with_cache(model, torch.full((2, 1), V), cache)
    assert cache.length == 4


def test_cached_reading_costs_one_token_a_step(ch05, model):
    """Counted, not timed: rows that pass through the first feed-forward layer."""
    rows = []
    model.trf_blocks[0].ff.register_forward_hook(lambda module, args, output: rows.append(args[0].shape[1]))
    ch05.generate(model, prompts(1, 4), 5, CONTEXT)
    assert rows == [4, 1, 1, 1, 1]
    rows.clear()
    ch05.generate(model, prompts(1, 4), 5, CONTEXT, use_cache=False)
    assert rows == [4, 5, 6, 7, 8]


# generate ------------------------------------------------------------------------------------------------


def slow_generate(model, idx, n_new, temperature, top_k, top_p, eos_id):
    """Like generate, one row and one token at a time, with the filters as loops; draws for all rows at once."""
    model.eval()
    ended = [False] * len(idx)
    for _ in range(n_new):
        with torch.no_grad():
            logits = torch.stack([model(row[-CONTEXT:].unsqueeze(0))[0, -1] for row in idx])
        if temperature == 0:
            newest = [row.argmax().item() for row in logits]
        else:
            table = torch.zeros_like(logits)
            for row, chances in zip(logits, table):
                ranked = sorted(range(V), key=lambda i: -row[i].item())[: top_k or V]
                weights = {i: math.exp((row[i].item() - row[ranked[0]].item()) / temperature) for i in ranked}
                total, head = 0.0, []
                for i in ranked:
                    head.append(i)
                    total += weights[i] / sum(weights.values())
                    if total >= (top_p or 2):
                        break
                for i in head:
                    chances[i] = weights[i] / sum(weights[j] for j in head)
            newest = torch.multinomial(table, 1).flatten().tolist()
        newest = [eos_id if over else token for over, token in zip(ended, newest)]
        ended = [token == eos_id for token in newest] if eos_id is not None else ended
        if all(ended):
            break
        idx = torch.cat([idx, torch.tensor(newest).unsqueeze(1)], dim=1)
    return idx


@pytest.mark.parametrize("n_texts", [1, 3])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("top_k", [None, 1, V, V + 5])
@pytest.mark.parametrize("n_given", [4, CONTEXT + 3])
def test_generate_cached_plain_and_slow_agree(ch05, model, n_texts, temperature, top_k, n_given):
    idx, n_new = prompts(n_texts, n_given), CONTEXT
    for top_p in (None, 0.9):
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        torch.manual_seed(7)
        free = ch05.generate(model, idx, n_new, CONTEXT, **settings)
        written = free[:, n_given:]
        for eos_id in (written[0, 1].item(), written[-1, -1].item(), None):      # early, late, never
            results = []
            for use_cache in (True, False):
                torch.manual_seed(7)
                results.append(
                    ch05.generate(model, idx, n_new, CONTEXT, eos_id=eos_id, use_cache=use_cache, **settings)
                )
            torch.manual_seed(7)
            results.append(slow_generate(model, idx, n_new, temperature, top_k, top_p, eos_id))
            assert torch.equal(results[0], results[1]) and torch.equal(results[1], results[2])
            assert torch.equal(results[0][:, :n_given], idx)
            model.train()


def test_rows_end_by_themselves(ch05):
    """Token i is followed by i + 1 for sure; eos is 5. Rows that begin at 1, 3 and 4."""
    follow = torch.full((9, 9), -9.0)
    for token in range(9):
        follow[token, (token + 1) % 9] = 9.0
    rows = torch.tensor([[1], [3], [4]])
    got = ch05.generate(Table(follow), rows, 8, 4, eos_id=5, use_cache=False)
    assert got.tolist() == [[1, 2, 3, 4], [3, 4, 5, 5], [4, 5, 5, 5]]      # the last row's end is not appended
    assert ch05.generate(Table(follow), rows[2:], 8, 4, eos_id=5, use_cache=False).tolist() == [[4]]
    assert ch05.generate(Table(follow), rows[:1], 3, 4, use_cache=False).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored_and_dropout_is_off(ch05, model, training):
    model.train(training)
    idx = prompts(2, 5)
    assert torch.equal(ch05.generate(model, idx, 6, CONTEXT), ch05.generate(model, idx, 6, CONTEXT))
    assert model.training is training
    with pytest.raises(ValueError, match="not in the vocabulary"):
        ch05.generate(model, idx + V, 6, CONTEXT)
    assert model.training is training


def test_edges_of_generate(ch05, model):
    idx = prompts(2, 5)
    assert ch05.generate_text is ch05.generate
    assert torch.equal(ch05.generate(model, idx, 0, CONTEXT), idx)
    assert torch.equal(ch05.generate(model, idx, 9, CONTEXT), ch05.generate_text_simple(model.eval(), idx, 9, CONTEXT))
    assert torch.equal(ch05.generate(model, idx, 9, 3), ch05.generate_text_simple(model, idx, 9, 3))
    for bad in (torch.empty(1, 0, dtype=torch.int64), torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="at least one token"):
            ch05.generate(model, bad, 1, CONTEXT)
    for n_new, context, wrong in ((-1, CONTEXT, "max_new_tokens .* it is -1"), (1, 0, "context_size .* it is 0")):
        with pytest.raises(ValueError, match=wrong):
            ch05.generate(model, idx, n_new, context)
    assert not ch05.generate(model, idx, 3, CONTEXT).requires_grad


def test_numpy_numbers_are_numbers(ch05, model):
    idx = prompts(1, 4)
    torch.manual_seed(1)
    want = ch05.generate(model, idx, 5, CONTEXT, 1.0, top_k=3)
    torch.manual_seed(1)
    assert torch.equal(ch05.generate(model, idx, 5, CONTEXT, np.float32(1), top_k=np.int64(3)), want)


def test_top_k_of_one_is_greedy(ch05, model):
    idx = prompts(3, 4)
    greedy = ch05.generate(model, idx, 10, CONTEXT)
    assert torch.equal(ch05.generate(model, idx, 10, CONTEXT, temperature=3.0, top_k=1), greedy)
    assert not torch.equal(ch05.generate(model, idx, 10, CONTEXT, temperature=3.0), greedy)


# Beam search ---------------------------------------------------------------------------------------------


def best_by_trying_all(logits, first, n_new, eos_id=None, length_penalty=0.0):
    """(score, tokens) of the likeliest continuation, over all of them."""
    steps = torch.log_softmax(logits.double(), dim=-1)
    best = (-math.inf, [])
    for tokens in itertools.product(range(len(logits)), repeat=n_new):
        if eos_id in tokens:
            end = tokens.index(eos_id) + 1
            if any(token != eos_id for token in tokens[end:]):
                continue
            tokens = tokens[:end]
        score = sum(steps[a, b].item() for a, b in zip((first, *tokens), tokens)) / len(tokens) ** length_penalty
        best = max(best, (score, [token for token in tokens if token != eos_id]))
    return best


@pytest.mark.parametrize("eos_id", [None, 2])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_with_enough_beams_the_best_is_found(ch05, eos_id, length_penalty, seed):
    logits = 2 * torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
    _, want = best_by_trying_all(logits, 0, 4, eos_id, length_penalty)
    got = ch05.beam_search(Table(logits), torch.tensor([[0]]), 4, 8, 4**4, eos_id, length_penalty)
    assert got[0, 1:].tolist() == want


def test_more_beams_than_tokens_an_end_that_never_comes_and_bad_logits(ch05):
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    first = torch.tensor([[0]])
    want = ch05.beam_search(Table(logits), first, 3, 8, 64)
    assert torch.equal(ch05.beam_search(Table(logits), first, 3, 8, 64, eos_id=99), want)
    logits[2, 1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        ch05.beam_search(Table(logits), torch.tensor([[2]]), 3, 8, 2)


def test_one_beam_is_greedy(ch05, model):
    idx = prompts(1, 6)
    model.eval()
    for n_new in (0, 1, 10):
        assert torch.equal(ch05.beam_search(model, idx, n_new, CONTEXT, 1), ch05.generate(model, idx, n_new, CONTEXT))
    greedy = ch05.generate(model, idx, 10, CONTEXT)
    eos_id = greedy[0, 9].item()
    want = ch05.generate(model, idx, 10, CONTEXT, eos_id=eos_id)
    assert torch.equal(ch05.beam_search(model, idx, 10, CONTEXT, 1, eos_id=eos_id), want)


@pytest.mark.parametrize("idx, n_new, beams, message", [
    (prompts(2, 3), 1, 2, r"expected the ids of one beginning, .* got \(2, 3\)"),
    (prompts(1, 3), 1, 0, "num_beams must be a whole number, 1 or more; it is 0"),
    (prompts(1, 3), -1, 2, "max_new_tokens must be a whole number, 0 or more; it is -1"),
    (torch.empty(1, 0, dtype=torch.int64), 1, 2, r"with at least one token; got \(1, 0\)"),
])  # fmt: skip
def test_beam_search_refuses(ch05, model, idx, n_new, beams, message):
    with pytest.raises(ValueError, match=message):
        ch05.beam_search(model, idx, n_new, CONTEXT, beams)
