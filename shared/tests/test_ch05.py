"""Chapter 5's losses and training loop, on small models."""

import contextlib
import io
import math
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TINY = {
    "vocab_size": 50_257,
    "context_length": 16,
    "emb_dim": 32,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
LINE = "The keeper lit the lamp and the tide came in. " * 8


@pytest.fixture
def model(ch05):
    torch.manual_seed(3)
    return ch05.GPTModel(TINY)


def loader_of(*lengths, width=16, seed=0):
    """A loader over random ids whose batches have the given numbers of rows."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(0, 50_257, (2, n, width), generator=generator)) for n in lengths]


# Text and ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Every effort", "a<|endoftext|>b", "猫 🤗\n"])
def test_text_and_ids_round_trip(ch05, gpt2, text):
    ids = ch05.text_to_token_ids(text, gpt2)
    assert ids.dtype == torch.int64 and ids.shape[0] == 1
    assert ch05.token_ids_to_text(ids, gpt2) == ch05.token_ids_to_text(ids[0], gpt2) == text


def test_the_end_of_text_sign_is_the_special_token(ch05, gpt2):
    assert ch05.text_to_token_ids("<|endoftext|>", gpt2).tolist() == [[50_256]]


def test_a_batch_is_no_text(ch05, gpt2):
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        ch05.token_ids_to_text(torch.ones(2, 3, dtype=torch.int64), gpt2)


# Losses --------------------------------------------------------------------------------------------------


def test_batch_loss_is_the_mean_surprise(ch05, model):
    ((inputs, targets),) = loader_of(3)
    model.eval()
    loss = ch05.calc_loss_batch(inputs, targets, model, "cpu")
    surprises = []
    logits = model(inputs)
    for row in range(3):
        for place in range(16):
            surprises.append(-torch.log_softmax(logits[row, place], dim=-1)[targets[row, place]])
    torch.testing.assert_close(loss, torch.stack(surprises).mean())
    assert loss.requires_grad and loss.shape == ()


def test_loader_loss_counts_every_prediction_once(ch05, model):
    """However the rows are cut into batches; and targets of -100 do not count."""
    ((inputs, targets),) = loader_of(8)
    targets[:5, :15] = -100
    model.eval()
    losses = []
    with torch.no_grad():
        for size in (1, 3, 8):
            loader = DataLoader(TensorDataset(inputs, targets), batch_size=size)
            losses.append(ch05.calc_loss_loader(loader, model, "cpu"))
        want = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item()
    assert losses == pytest.approx([want] * 3, abs=1e-5)


def test_loader_loss_edge_cases(ch05, model):
    model.eval()
    loader = loader_of(2, 2, 2)
    with torch.no_grad():
        one = ch05.calc_loss_loader(loader, model, "cpu", num_batches=1)
        assert one == pytest.approx(ch05.calc_loss_batch(*loader[0], model, "cpu").item())
        assert ch05.calc_loss_loader(loader, model, "cpu", 99) == ch05.calc_loss_loader(loader, model, "cpu")
        assert math.isnan(ch05.calc_loss_loader([], model, "cpu"))
        ignored = [(loader[0][0], torch.full((2, 16), -100))]
        assert math.isnan(ch05.calc_loss_loader(ignored, model, "cpu"))
        assert ch05.calc_loss_loader(ignored + loader[:1], model, "cpu") == pytest.approx(one)
    for bad in (0, -1):
        with pytest.raises(ValueError, match=f"it is {bad}"):
            ch05.calc_loss_loader(loader, model, "cpu", num_batches=bad)


def test_another_loss_can_be_passed(ch05, model):
    def count_rows(inputs, targets, model, device):
        return torch.tensor(float(len(inputs)))

    losses = ch05.evaluate_model(model, loader_of(2, 2), loader_of(3), "cpu", 5, loss_fn=count_rows)
    assert losses == (2.0, 3.0)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_mode_and_uses_no_dropout(ch05, model, training):
    model.train(training)
    loader = loader_of(2)
    assert ch05.evaluate_model(model, loader, loader, "cpu", 1) == ch05.evaluate_model(model, loader, loader, "cpu", 1)
    assert model.training is training
    with pytest.raises(RuntimeError, match="inside"), ch05.eval_mode(model):
        assert not model.training and not torch.is_grad_enabled()
        raise RuntimeError("inside")
    assert model.training is training and torch.is_grad_enabled()


def test_parts_get_back_the_mode_that_each_had(ch05, model):
    model.train()
    model.trf_blocks[0].eval()
    with ch05.eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert not any(part.training for part in model.trf_blocks[0].modules())
    assert model.training and model.trf_blocks[1].drop_shortcut.training


# Sizes and devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_are_foretold(ch05, drop_last):
    for n_tokens in range(1, 60):
        for batch_size in (1, 2, 3):
            rows = len(range(0, max(0, n_tokens - 8), 8))
            batches = rows // batch_size if drop_last else math.ceil(rows / batch_size)
            if batches:
                assert ch05.check_loader_sizes(n_tokens, 8, batch_size, drop_last) == batches
            else:
                with pytest.raises(ValueError, match=f"{n_tokens} tokens give {rows} rows of 8"):
                    ch05.check_loader_sizes(n_tokens, 8, batch_size, drop_last)


@pytest.mark.parametrize(
    "cuda, mps, agrees, want", [(True, True, True, "cuda"), (False, True, True, "mps"), (False, True, False, "cpu"),
                                (False, False, True, "cpu")]
)  # fmt: skip
def test_order_of_devices(ch05, monkeypatch, capsys, cuda, mps, agrees, want):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(ch05, "agrees_with_cpu", lambda device: agrees)
    state = torch.get_rng_state()
    assert ch05.get_device().type == want
    assert torch.equal(torch.get_rng_state(), state)
    assert ("CPU is used" in capsys.readouterr().out) == (mps and not cuda and not agrees)


def test_a_device_that_computes_wrongly_is_noticed(ch05, monkeypatch):
    assert ch05.agrees_with_cpu("cpu")
    forward = ch05.GPTModel.forward
    calls = []

    def wrong_the_second_time(self, ids):
        calls.append(1)
        return forward(self, ids) * (1.5 if len(calls) > 1 else 1)

    monkeypatch.setattr(ch05.GPTModel, "forward", wrong_the_second_time)
    assert not ch05.agrees_with_cpu("cpu")


# Training ------------------------------------------------------------------------------------------------


def train(ch05, gpt2, epochs=1, eval_freq=2, **changes):
    torch.manual_seed(1)
    loader = ch05.create_dataloader_v1(LINE, 4, 16, 3, shuffle=True)
    model = ch05.GPTModel(TINY | changes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        history = ch05.train_model_simple(
            model, loader, loader, optimizer, "cpu", epochs, eval_freq, 1, "The keeper", gpt2
        )
    return model, history, out.getvalue(), len(loader)


def test_log_samples_and_history(ch05, gpt2):
    model, (train_losses, val_losses, tokens_seen), log, steps = train(ch05, gpt2, epochs=2)
    lines = re.findall(r"^Ep (\d+) \(Step (\d{6})\): Train loss (\d+\.\d{3}), Val loss (\d+\.\d{3})$", log, flags=re.M)
    measured = [step for step in range(2 * steps) if step % 2 == 0]
    assert [int(step) for _, step, _, _ in lines] == measured
    assert [int(epoch) for epoch, *_ in lines] == [step // steps + 1 for step in measured]
    assert tokens_seen == [(step + 1) * 4 * 16 for step in measured]
    assert [f"{loss:.3f}" for loss in train_losses] == [line[2] for line in lines]
    assert [f"{loss:.3f}" for loss in val_losses] == [line[3] for line in lines] and val_losses != train_losses
    samples = [line for line in log.splitlines() if line.startswith("The keeper")]
    assert len(samples) == 2 and model.training


def test_it_learns_a_line_by_heart(ch05, gpt2):
    _, (losses, _, _), log, _ = train(ch05, gpt2, epochs=12, eval_freq=10, drop_rate=0.0)
    assert losses[0] > 5 and losses[-1] < 0.5
    assert "lit the lamp and the tide came in." in log.splitlines()[-1]


def test_each_step_is_one_of_plain_adamw(ch05, gpt2):
    """Gradients are zeroed before each step: the weights are those of a loop that makes new ones each time."""
    model, _, _, _ = train(ch05, gpt2, eval_freq=0, drop_rate=0.0)
    torch.manual_seed(1)
    loader = ch05.create_dataloader_v1(LINE, 4, 16, 3, shuffle=True)
    other = ch05.GPTModel(TINY | {"drop_rate": 0.0})
    optimizer = torch.optim.AdamW(other.parameters(), lr=3e-3)
    for inputs, targets in loader:
        loss = nn.functional.cross_entropy(other(inputs).flatten(0, 1), targets.flatten())
        for parameter, gradient in zip(other.parameters(), torch.autograd.grad(loss, list(other.parameters()))):
            parameter.grad = gradient
        optimizer.step()
    for got, want in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(got, want)


def test_a_watcher_sees_every_measurement(ch05, gpt2, capsys):
    torch.manual_seed(1)
    loader = ch05.create_dataloader_v1(LINE, 4, 16, 3, shuffle=True)
    model = ch05.GPTModel(TINY)
    seen = []
    history = ch05.train_model_simple(
        model, loader, loader, torch.optim.AdamW(model.parameters()), "cpu", 1, 4, 1, "The keeper", gpt2,
        watch=lambda tokens, train_losses, val_losses: seen.append(
            (list(tokens), list(train_losses), list(val_losses))
        ),
    )  # fmt: skip
    assert [len(tokens) for tokens, _, _ in seen] == list(range(1, len(history[0]) + 1)) and len(seen) > 1
    assert seen[-1] == (history[2], history[0], history[1])


def test_training_without_a_batch_is_refused(ch05, gpt2, model):
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="no batch"):
        ch05.train_model_simple(model, [], [], optimizer, "cpu", 1, 1, 1, "x", gpt2)


# Plots ---------------------------------------------------------------------------------------------------


def test_plots_say_what_they_show(ch05):
    losses = [3.0, 2.0, 1.0]
    axes, upper = ch05.plot_losses([0.1, 1.0, 2.0], [10, 100, 200], losses, [3.0, 2.5, 2.4]).axes
    assert (axes.get_xlabel(), axes.get_ylabel(), upper.get_xlabel()) == ("Epochs", "Loss", "Tokens seen")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Training loss", "Validation loss"]
    assert axes.lines[0].get_xdata().tolist() == [0.1, 1.0, 2.0] and upper.lines[0].get_alpha() == 0
    (axes,) = ch05.plot_perplexity([10, 100, 200], losses, losses).axes
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([math.exp(loss) for loss in losses])
    assert axes.get_yscale() == "log" and axes.get_title() == "Perplexity over Training"


# The real model: the notebook asserts these at full scale only, and the tests run it at small ------------


@pytest.fixture(scope="module")
def full_model(ch05):
    torch.manual_seed(123)
    return ch05.GPTModel({**ch05.GPT_CONFIG_124M, "context_length": 256})


def test_figures_of_the_untrained_model(ch05, gpt2, full_model):
    inputs = torch.tensor([[16833, 3626, 6100], [40, 1107, 588]])
    targets = torch.tensor([[3626, 6100, 345], [1107, 588, 11311]])
    with ch05.eval_mode(full_model):
        loss = ch05.calc_loss_batch(inputs, targets, full_model, "cpu").item()
        probabilities = full_model(inputs).softmax(dim=-1)
        ids = ch05.generate_text_simple(full_model, ch05.text_to_token_ids("Every effort moves you", gpt2), 10, 256)
    assert loss == pytest.approx(10.7940, abs=1e-4) and math.exp(loss) == pytest.approx(48_725.82, abs=2)
    assert probabilities.argmax(dim=-1).tolist() == [[16657, 339, 42826], [49906, 29669, 41751]]
    true_next = probabilities.gather(-1, targets.unsqueeze(-1)).flatten()
    want = torch.tensor([7.4541e-05, 3.1061e-05, 1.1563e-05, 1.0337e-05, 5.6776e-05, 4.7559e-06])
    torch.testing.assert_close(true_next, want, rtol=1e-3, atol=0)
    assert ids[0, 4:].tolist() == [34245, 5139, 2492, 25405, 17434, 17853, 5308, 3398, 13174, 43071]


def test_losses_before_training_and_first_lines_of_the_log(ch05, gpt2, full_model, verdict, capsys):
    """One of the ten epochs: the known losses of steps 0 and 5, and the first sample. CPU."""
    split = int(0.9 * len(verdict))
    train_loader = ch05.create_dataloader_v1(verdict[:split], 2, 256, 256, shuffle=True, drop_last=True)
    val_loader = ch05.create_dataloader_v1(verdict[split:], 2, 256, 256, shuffle=False, drop_last=False)
    torch.manual_seed(123)
    with ch05.eval_mode(full_model):
        before = [ch05.calc_loss_loader(loader, full_model, "cpu") for loader in (train_loader, val_loader)]
    assert before == pytest.approx([10.98758347829183, 10.98110580444336], abs=1e-4)

    torch.manual_seed(123)
    model = ch05.GPTModel({**ch05.GPT_CONFIG_124M, "context_length": 256})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0004, weight_decay=0.1, fused=True)
    train_losses, val_losses, seen = ch05.train_model_simple(
        model, train_loader, val_loader, optimizer, "cpu", 1, 5, 5, "Every effort moves you", gpt2
    )
    assert [round(loss, 3) for loss in train_losses] == [9.781, 8.111]
    assert [round(loss, 3) for loss in val_losses] == [9.933, 8.339]
    assert seen == [512, 3_072]
    assert capsys.readouterr().out.splitlines()[-1].rstrip() == "Every effort moves you,,,,,,,,,,,,."
