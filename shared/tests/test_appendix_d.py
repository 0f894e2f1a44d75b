"""Appendix D's schedule, clipping, training loop, accumulation and plans, on small models."""

import contextlib
import copy
import io
import math
import re

import pytest
import torch
from torch import nn

TINY = {
    "vocab_size": 50_257,
    "context_length": 16,
    "emb_dim": 16,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
LINE = "The keeper lit the lamp and the tide came in. " * 8


@pytest.fixture(scope="module")
def appendix():
    from shared.carry import load_chapter

    return load_chapter("appendix_d_training_loop")


# Schedule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total, warmup", [(135, 20), (135, 0), (10, 9), (10, 10), (10, 25), (1, 0), (1, 1), (0, 0)])
def test_schedule_stays_within_its_bounds_and_turns_once(appendix, total, warmup):
    rates = [appendix.lr_at_step(step, total, warmup, 1e-4, 1e-2, 1e-5) for step in range(total + 5)]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    rising = rates[: min(warmup, total)]
    assert all(a < b for a, b in zip(rising, rising[1:]))
    falling = rates[warmup:total]
    assert all(a > b for a, b in zip(falling, falling[1:])) and (not falling or falling[0] == 1e-2)
    assert rates[total:] == [1e-5] * 5


def test_schedule_is_the_formula(appendix):
    for step in range(20, 135):
        share = (step - 20) / 115
        want = 1e-5 + (1e-2 - 1e-5) * 0.5 * (1 + math.cos(math.pi * share))
        assert appendix.lr_at_step(step, 135, 20, 1e-4, 1e-2, 1e-5) == pytest.approx(want, rel=1e-12)
    for step in range(20):
        want = 1e-4 + step * 0.000495
        assert appendix.lr_at_step(step, 135, 20, 1e-4, 1e-2, 1e-5) == pytest.approx(want, rel=1e-12)


def test_schedule_with_the_defaults_of_the_loop(appendix):
    """Figures that others have found too: 135 steps, a warmup of 10 from 3e-5, peaks of 1e-3 and 5e-4."""
    want = {0: 3e-5, 1: 1.27e-4, 5: 5.15e-4, 9: 9.03e-4, 10: 1e-3, 11: 9.99842e-4, 72: 5.06777e-4, 73: 4.94223e-4,
            134: 1.157745e-06}  # fmt: skip
    for step, rate in want.items():
        assert appendix.lr_at_step(step, 135, 10, 3e-5, 1e-3, 1e-6) == pytest.approx(rate, rel=1e-5)
    assert appendix.lr_at_step(134, 135, 10, 3e-5, 5e-4, 1e-6) == pytest.approx(1.078795e-06, rel=1e-5)


@pytest.mark.parametrize("arguments, message", [
    ((-1, 10, 2, 0, 1, 0), "steps cannot be negative"),
    ((0, 10, -2, 0, 1, 0), "10 and -2"),
    ((0, 10, 2, 0, 1, 2), "they are 0 and 2, and peak_lr is 1"),
    ((0, 10, 2, 3, 1, 0), "they are 3 and 0, and peak_lr is 1"),
    ((0, 10, 2, -1, 1, 0), "between 0 and peak_lr"),
    ((0, 10, 2, 0, math.nan, 0), "between 0 and peak_lr"),
    ((0, 10, 2, 0, math.inf, 0), "between 0 and peak_lr"),
])  # fmt: skip
def test_schedules_that_make_no_sense(appendix, arguments, message):
    with pytest.raises(ValueError, match=message):
        appendix.lr_at_step(*arguments)


# Clipping ------------------------------------------------------------------------------------------------


def test_clipping_keeps_the_direction_and_bounds_the_norm(appendix):
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
    torch.manual_seed(0)
    for scale in (0.01, 3.0, 1e4):
        for parameter in model.parameters():
            parameter.grad = scale * torch.randn_like(parameter)
        before = torch.cat([p.grad.flatten() for p in model.parameters()])
        norm = appendix.clip_gradients(model, 1.0, step=0)
        after = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert norm == pytest.approx(before.norm().item(), rel=1e-5)
        assert after.norm() <= 1.0 + 1e-5
        torch.testing.assert_close(after, before * min(1.0, 1 / norm), rtol=1e-4, atol=1e-7)


def test_largest_gradient_is_the_largest_in_size(appendix):
    model = nn.Linear(4, 1)
    assert appendix.find_highest_gradient(model) is None
    model.weight.grad = torch.tensor([[-9.0, 0.1, 0.2, 0.3]])
    assert appendix.find_highest_gradient(model).item() == 9.0
    model.bias.grad = torch.tensor([11.0])
    assert appendix.find_highest_gradient(model).item() == 11.0


# The loop ------------------------------------------------------------------------------------------------


def train(appendix, gpt2, epochs=1, eval_freq=2, lr=3e-3, steps=None, changes=None, optimizer=None, **settings):
    torch.manual_seed(1)
    loader = appendix.create_dataloader_v1(LINE, 4, 16, 3, shuffle=True)
    model = appendix.GPTModel(TINY | (changes or {}))
    optimizer = optimizer(model) if optimizer else torch.optim.AdamW(model.parameters(), lr=lr)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        history = appendix.train_model(
            model, loader, loader, optimizer, "cpu", epochs, eval_freq, 1, "The keeper", gpt2,
            on_step=None if steps is None else lambda *step: steps.append(step), **settings,
        )  # fmt: skip
    return model, history, out.getvalue(), len(loader), optimizer


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_measuring_does_not_change_the_weights(appendix, gpt2):
    never = weights(train(appendix, gpt2, eval_freq=0)[0])
    for eval_freq in (1, 3, 7):
        assert torch.equal(weights(train(appendix, gpt2, eval_freq=eval_freq)[0]), never)


def test_log_and_history(appendix, gpt2):
    steps = []
    _, (train_losses, val_losses, seen, rates), log, n, _ = train(appendix, gpt2, epochs=2, warmup_steps=3, steps=steps)
    lines = re.findall(r"^Ep (\d+) \(Iter (\d{6})\): Train loss (\d+\.\d{3}), Val loss (\d+\.\d{3})$", log, flags=re.M)
    measured = list(range(0, 2 * n, 2))
    assert [int(line[1]) for line in lines] == measured and [int(line[0]) for line in lines] == [
        step // n + 1 for step in measured
    ]
    assert [f"{loss:.3f}" for loss in train_losses] == [line[2] for line in lines] and len(val_losses) == len(lines)
    assert seen == [(step + 1) * 4 * 16 for step in measured]
    want = [appendix.lr_at_step(step, 2 * n, 3, 3e-5, 3e-3, 1e-6) for step in range(2 * n)]
    assert rates == want and [(step, rate) for step, rate, _ in steps] == list(enumerate(want))
    assert log.count("The keeper") == 2


def test_each_step_is_clipped_adamw_at_the_schedules_rate(appendix, gpt2):
    model, *_ = train(appendix, gpt2, eval_freq=0, max_norm=0.3, warmup_steps=2, changes={"drop_rate": 0.0})
    torch.manual_seed(1)
    loader = appendix.create_dataloader_v1(LINE, 4, 16, 3, shuffle=True)
    other = appendix.GPTModel(TINY | {"drop_rate": 0.0})
    optimizer = torch.optim.AdamW(other.parameters())
    for step, (inputs, targets) in enumerate(loader):
        loss = nn.functional.cross_entropy(other(inputs).flatten(0, 1), targets.flatten())
        gradients = torch.autograd.grad(loss, list(other.parameters()))
        factor = min(1.0, 0.3 / torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
        for parameter, gradient in zip(other.parameters(), gradients):
            parameter.grad = gradient * factor
        optimizer.param_groups[0]["lr"] = appendix.lr_at_step(step, len(loader), 2, 3e-5, 3e-3, 1e-6)
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-4, atol=1e-5)


def test_peak_survives_a_second_call_and_a_state_dict(appendix, gpt2):
    model, (*_, rates), _, n, optimizer = train(appendix, gpt2, warmup_steps=3)
    assert optimizer.param_groups[0]["lr"] < 3e-3 / 2
    fresh = torch.optim.AdamW(model.parameters(), lr=0.7)
    fresh.load_state_dict(optimizer.state_dict())
    assert appendix.peak_learning_rate(optimizer) == appendix.peak_learning_rate(fresh) == max(rates) == 3e-3


def test_all_groups_get_the_rate(appendix, gpt2):
    def grouped(model):
        return torch.optim.AdamW(appendix.decay_groups(model, 0.1), lr=3e-3)

    *_, optimizer = train(appendix, gpt2, optimizer=grouped)
    assert optimizer.param_groups[0]["lr"] == optimizer.param_groups[1]["lr"] < 3e-3


def test_a_gradient_that_is_no_number_stops_before_the_step(appendix, gpt2, monkeypatch):
    calls, loss_fn = [], appendix.calc_loss_batch
    good = {}

    def third_is_nan(inputs, targets, model, device):
        calls.append(1)
        if len(calls) == 3:
            good.update({name: value.clone() for name, value in model.state_dict().items()}, model=model)
            return loss_fn(inputs, targets, model, device) * math.nan
        return loss_fn(inputs, targets, model, device)

    monkeypatch.setattr(appendix, "calc_loss_batch", third_is_nan)
    with pytest.raises(RuntimeError, match="gradient of step 2 has norm nan"):
        train(appendix, gpt2, eval_freq=0)
    model = good.pop("model")
    assert all(torch.equal(good[name], value) for name, value in model.state_dict().items())


def test_what_is_said_before_the_first_step(appendix, gpt2):
    model = appendix.GPTModel(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    with pytest.raises(ValueError, match="no batch"):
        appendix.train_model(model, [], [], optimizer, "cpu", 1, 1, 1, "x", gpt2)
    with pytest.raises(ValueError, match="initial_lr and min_lr must lie"):
        appendix.train_model(model, [1], [], optimizer, "cpu", 1, 1, 1, "x", gpt2)
    with pytest.raises(ValueError, match="eval_iter must be at least 1 batch; it is 0"):
        appendix.train_model(model, [1] * 99, [], torch.optim.AdamW(model.parameters()), "cpu", 1, 1, 0, "x", gpt2)
    for max_norm in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm must be above 0"):
            appendix.clip_gradients(model, max_norm, 0)
    with pytest.warns(UserWarning, match="warmup of 500 steps lasts at least as long as the run of"):
        train(appendix, gpt2, warmup_steps=500)


def test_undisturbed_puts_the_random_numbers_back(appendix):
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    drawn = []
    with contextlib.suppress(KeyError), appendix.undisturbed():
        drawn.append(torch.rand(3))
        raise KeyError
    assert torch.equal(torch.rand(2), want)
    with appendix.undisturbed():
        assert torch.equal(torch.rand(3), drawn[0])


# Accumulation and groups ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [4, 2], [5, 1]], ids=str)
def test_pieces_give_the_gradient_of_the_whole(appendix, sizes):
    torch.manual_seed(0)
    model = appendix.GPTModel(TINY | {"drop_rate": 0.0})
    inputs, targets = torch.randint(0, 50_257, (2, 6, 16))
    targets[1, 3:], targets[4] = -100, -100
    want_loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    want = torch.autograd.grad(want_loss, list(model.parameters()))
    loss = appendix.accumulate_gradients(model, list(zip(inputs.split(sizes), targets.split(sizes))), "cpu")
    assert loss == pytest.approx(want_loss.item(), abs=1e-5)
    for parameter, gradient in zip(model.parameters(), want):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no prediction counts"):
        appendix.accumulate_gradients(model, [(inputs, torch.full_like(targets, -100))], "cpu")


def test_groups_of_batches(appendix):
    assert list(appendix.in_groups(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(appendix.in_groups([], 3)) == []
    with pytest.raises(ValueError, match="size must be a whole number, 1 or more; it is 0"):
        list(appendix.in_groups([1], 0))


def test_an_iterator_of_batches_is_not_used_up_by_counting(appendix):
    model = appendix.GPTModel(TINY)
    ids = torch.randint(0, 50_257, (2, 1, 16))
    loss = appendix.accumulate_gradients(model, zip(ids, ids), "cpu")
    assert loss > 5 and appendix.find_highest_gradient(model) > 0


@pytest.mark.parametrize("n_rows", [None, 1, 60, 1_000])
def test_loss_in_pieces_is_the_plain_loss(appendix, n_rows):
    """Value and gradients of 300 tokens, also for a loss that is scaled, and without gradients."""
    torch.manual_seed(0)
    features, head = torch.randn(3, 100, 8, requires_grad=True), torch.randn(91, 8, requires_grad=True)
    targets = torch.randint(0, 91, (3, 100))
    want = nn.functional.cross_entropy((features @ head.T).flatten(0, 1), targets.flatten(), reduction="sum")
    gradients = torch.autograd.grad(want / 7, (features, head))
    got = appendix.summed_loss(features, head, targets, n_rows)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got / 7, (features, head)), gradients)
    with torch.no_grad():
        torch.testing.assert_close(appendix.summed_loss(features, head, targets, n_rows), want)


def test_loss_in_pieces_never_holds_all_logits(appendix, monkeypatch):
    sizes, linear = [], nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda x, w: sizes.append(len(x)) or linear(x, w))
    features, head = torch.randn(2, 150, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
    appendix.summed_loss(features, head, torch.zeros(2, 150, dtype=torch.int64)).backward()
    assert sizes == [128, 128, 44]


def test_plans(appendix):
    plan = appendix.training_plan(10**9, 1.6e14, 8)
    want = {"tokens": 2 * 10**10, "days": 750_000 / 8 / 86_400, "memory_gb": 16, "sharded_gb": 2, "sent_gb": 7}
    assert plan == pytest.approx(want)
    assert appendix.training_plan(10**9, 1.6e14)["sent_gb"] == 0
    with pytest.raises(ValueError, match="n_devices must be a whole number, 1 or more; it is 0"):
        appendix.training_plan(10**9, 1.6e14, 0)


def test_every_parameter_is_in_one_group(appendix):
    model = appendix.GPTModel(TINY | {"tie_weights": True, "qkv_bias": True})
    model.final_norm.scale.requires_grad_(False)
    groups = appendix.decay_groups(model, 0.1)
    in_groups = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(in_groups) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"]) and all(p.ndim < 2 for p in groups[1]["params"])


# D.12: eight bits -----------------------------------------------------------------------------------------------


def test_eight_bits_move_no_weight_by_more_than_half_a_scale(appendix):
    torch.manual_seed(1)
    weight = torch.randn(20, 30) * torch.logspace(-3, 3, 20)[:, None]
    weight[3] = 0.0
    numbers, scales = appendix.in_eight_bits(weight)
    assert numbers.dtype == torch.int8 and scales.shape == (20,)
    assert numbers.abs().max() == 127 and numbers.min() >= -127
    assert ((numbers * scales[:, None] - weight).abs() <= 0.5001 * scales[:, None]).all()
    assert torch.isfinite(scales).all() and (numbers[3] == 0).all()


@pytest.mark.parametrize("width", [32, 24])
@pytest.mark.parametrize("kind", ["GPT", "modern"])
def test_blocks_in_eight_bits_give_nearly_the_same(appendix, kind, width):
    torch.manual_seed(1)
    if kind == "GPT":
        model = appendix.GPTModel(appendix.GPT_CONFIG_124M | {"vocab_size": 50, "context_length": 16, "emb_dim": width,
                                                      "n_heads": 4, "n_layers": 2, "qkv_bias": True})  # fmt: skip
    else:
        model = appendix.ModernGPT({"vocab_size": 50, "context_length": 16, "emb_dim": width, "hidden_dim": 64,
                                "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "rope_base": 1e4, "norm_eps": 1e-5,
                                "tie_weights": True})  # fmt: skip
    model.eval()
    ids = torch.randint(0, 50, (2, 12))
    with torch.no_grad():
        want = model(ids)
        small = appendix.blocks_in_eight_bits(copy.deepcopy(model))
        assert appendix.blocks_in_eight_bits(small) is small                    # a second time there is nothing to do
        found = small(ids)
    assert 0 < (found - want).abs().max() < 0.05 * want.abs().max()
    linears = [part for part in small.modules() if isinstance(part, torch.nn.Linear)]
    assert linears == [small.out_head]
    assert sum(isinstance(part, appendix.EightBitLinear) for part in small.modules()) == 2 * (6 if kind == "GPT" else 7)
    # One token at a time, as in writing, few rows are computed in bfloat16; with the same result up to its digits.
    cache = appendix.KeyValueCache(small, 2, 12)
    for place in range(12):
        logits = appendix.read_with_cache(small, ids[:, place : place + 1], cache)
        assert (logits - found[:, place]).abs().max() < 0.05 * want.abs().max()
    assert appendix.generate(small, ids[:, :3], 5, 16).shape == (2, 8)


def test_eight_bits_are_saved_and_read(appendix, tmp_path):
    torch.manual_seed(1)
    one, other = (appendix.EightBitLinear(torch.nn.Linear(32, 64)) for _ in range(2))
    torch.save(one.state_dict(), tmp_path / "layer.pth")
    other.load_state_dict(torch.load(tmp_path / "layer.pth", weights_only=True))
    x = torch.randn(3, 32)
    assert torch.equal(one(x), other(x)) and {p.dtype for p in one.state_dict().values()} == {torch.int8, torch.float32}
