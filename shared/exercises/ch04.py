"""Checks of the exercises of chapter 4."""

import copy
import math

import torch
from torch import nn

from shared.exercises import claim, close, exercise, must_raise, same

_SMALL = {
    "vocab_size": 50,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "qkv_bias": False,
}


@exercise("4.1")
def parameters_counted(count_parameters, feed_forward_class, attention_class):
    feed_forward, attention = feed_forward_class({"emb_dim": 768}), attention_class(768, 768, 8, 0.0, 12)
    same(count_parameters(nn.Linear(3, 2)), 8, "a linear layer from 3 to 2 numbers has 6 weights and 2 biases")
    same(count_parameters(feed_forward), 4_722_432, "the feed forward network of GPT-2 has 8 d² + 5 d numbers")
    same(count_parameters(attention), 2_360_064, "the attention module of GPT-2 has 4 d² + d numbers")
    shared = nn.ModuleList([nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)])
    shared[1].weight = shared[0].weight
    same(count_parameters(shared), 25, "a matrix that is used in two places counts once")
    norm = nn.Module()
    norm.scale, norm.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
    same(count_parameters(norm), 12, "parameters count whatever they are called, as scale and shift of a LayerNorm")
    half = nn.Linear(4, 3)
    half.weight.requires_grad_(False)
    same(count_parameters(half), 3, "of a layer whose weight is frozen the bias still counts")
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    frozen[0].requires_grad_(False)
    same(count_parameters(frozen), 5, "frozen parameters are not trainable")
    claim([p.requires_grad for p in frozen.parameters()] == [False] * 2 + [True] * 2, "counting changes nothing")


@exercise("4.2")
def larger_configs(gpt2_config, config_124m):
    before = copy.deepcopy(config_124m)
    sizes = {"medium": (1024, 24, 16), "large": (1280, 36, 20), "xl": (1600, 48, 25)}
    seen = []
    for name, (emb_dim, n_layers, n_heads) in sizes.items():
        cfg = gpt2_config(name)
        claim(isinstance(cfg, dict), f"gpt2_config returns a dict; yours returned a {type(cfg).__name__}")
        got = cfg.get("emb_dim"), cfg.get("n_layers"), cfg.get("n_heads")
        same(got, (emb_dim, n_layers, n_heads), f"{name}: numbers per token, blocks and heads")
        rest = {key: value for key, value in cfg.items() if key not in ("emb_dim", "n_layers", "n_heads")}
        same(rest, {key: before[key] for key in rest}, f"{name}: all other entries are those of GPT_CONFIG_124M")
        same(set(cfg), set(before), f"{name}: no entry is missing and none is new")
        seen.append(cfg)
    same(config_124m, before, "GPT_CONFIG_124M itself is unchanged")
    claim(len({id(cfg) for cfg in seen}) == 3 and config_124m not in seen, "each call returns a dict of its own")
    error = must_raise(ValueError, "an unknown name raises a ValueError", gpt2_config, "huge")
    for other in ("small", "XL", "xlarge"):
        must_raise(ValueError, f"{other!r} is none of the three names, and raises a ValueError", gpt2_config, other)
    claim(gpt2_config("xl") is not gpt2_config("xl"), "asked twice for one size, it returns two dicts")
    claim(all(name in str(error) for name in sizes), "the message of the ValueError says which names there are")


@exercise("4.3")
def separate_rates(build_with_rates, model_class):
    rates = {"drop_rate_emb": 0.1, "drop_rate_attn": 0.2, "drop_rate_shortcut": 0.3}
    for values in ((0.1, 0.2, 0.3), (0.0, 0.5, 0.25)):
        rates = dict(zip(rates, values))
        cfg = {**_SMALL, **rates}
        handed_over = dict(cfg)
        torch.manual_seed(1)
        model = build_with_rates(handed_over)
        same(handed_over, cfg, "the caller's config is left alone")
        claim(isinstance(model, model_class), f"it returns a {model_class.__name__} or a subclass")
        same(model.drop_emb.p, values[0], "drop_emb.p is drop_rate_emb")
        same([block.att.dropout.p for block in model.trf_blocks], [values[1]] * 2, "att.dropout.p is drop_rate_attn")
        shortcut = [block.drop_shortcut.p for block in model.trf_blocks]
        same(shortcut, [values[2]] * 2, "drop_shortcut.p is drop_rate_shortcut, in every block")
        torch.manual_seed(1)
        reference = model_class({**_SMALL, "drop_rate": 0.0})
        extra = sorted(set(model.state_dict()) ^ set(reference.state_dict()))
        same(extra, [], "parameters have the names they had before; these are missing or new")
        dropouts = [model.drop_emb, *(block.drop_shortcut for block in model.trf_blocks)]
        claim(all(isinstance(part, nn.Dropout) for part in dropouts), "the places hold dropout layers")
        claim(model.training, "a fresh model is in training mode")
        ids = torch.arange(6).reshape(1, 6)
        claim(not torch.equal(model(ids), model(ids)), "something is dropped in training mode")
        close(model.eval()(ids).detach(), reference.eval()(ids).detach(), "the same seed still gives the same model")


    deep = build_with_rates({**_SMALL, **rates, "n_layers": 3})
    got = [(block.att.dropout.p, block.drop_shortcut.p) for block in deep.trf_blocks]
    same(got, [(rates["drop_rate_attn"], rates["drop_rate_shortcut"])] * 3, "all blocks have their rates")
    special = build_with_rates({**_SMALL, **rates, "qkv_bias": True, "tie_weights": True})
    claim("trf_blocks.0.att.W_query.bias" in special.state_dict(), "the config's qkv_bias still counts")
    claim(special.out_head.weight is special.tok_emb.weight, "the config's tie_weights still counts")


@exercise("4.4")
def training_memory(training_mib):
    close(_number(training_mib(1_000_000)), _number(15.2588), "one million parameters take 15.2588 MiB", 1e-4)
    close(_number(training_mib(163_009_536)), _number(163_009_536 * 16 / 1024**2), "the 163 million of this chapter")
    close(_number(training_mib(1_000_000, 2)), _number(15.2588 / 2), "16-bit numbers take half of that", 1e-4)
    same(float(training_mib(0)), 0.0, "a model without parameters takes nothing")


def _number(value):
    claim(isinstance(value, (int, float)), f"the result is a number; yours is a {type(value).__name__}")
    return torch.tensor(float(value))


class _Script(nn.Module):
    """A 'model' that continues any text by a fixed list of ids, and notes how much it was shown."""

    def __init__(self, script, start):
        super().__init__()
        self.script, self.start, self.written, self.widest, self.recorded = script, start, 0, 0, False

    def forward(self, ids):
        self.widest = max(self.widest, ids.shape[1])
        logits = torch.zeros(*ids.shape, 20, requires_grad=torch.is_grad_enabled()) * 1.0
        self.recorded |= torch.is_grad_enabled()
        logits[:, -1, self.script[self.written % len(self.script)]] = 1.0
        self.written += 1
        return logits


@exercise("4.5")
def stops_at_the_end(generate_until):
    def run(script, beginning, n, eos, context=8, training=False):
        model = _Script(script, len(beginning)).train(training)
        ids = torch.tensor([beginning])
        before = ids.clone()
        got = generate_until(model, ids, n, context, eos)
        claim(isinstance(got, torch.Tensor), f"generate_until returns a tensor; yours returned a {type(got).__name__}")
        claim(torch.equal(ids, before), "the caller's ids are left alone")
        claim(model.widest <= context, "the model sees at most context_size tokens")
        claim(model.training == training, "the model's mode is left alone")
        claim(got.dtype == torch.int64, f"ids are of type int64; yours are {got.dtype}")
        if got.shape[1] > len(beginning):
            words = "it stops as soon as the end token has come, and asks the model for no further token"
            claim(model.written == got.shape[1] - len(beginning), words)
        claim(not model.recorded, "no gradients are recorded while writing")
        return got.tolist()

    same(run([7, 9, 7, 7], [1, 2], 10, 9), [[1, 2, 7, 9]], "it stops at the end token, which is included")
    same(run([7, 7, 7], [1, 2], 3, 9), [[1, 2, 7, 7, 7]], "without an end token it adds max_new_tokens tokens")
    same(run([7, 9], [9, 1], 5, 9), [[9, 1, 7, 9]], "an end token in the beginning does not count")
    same(run([7, 8, 9], [1, 9], 3, 9), [[1, 9, 7, 8, 9]], "nor one that stands last in the beginning")
    same(run([9], [3], 5, 9), [[3, 9]], "an end token that comes at once ends it at once")
    same(run([7, 0, 7], [1], 5, 0), [[1, 7, 0]], "the end token may have the number 0")
    same(run([7, 9, 7], [1, 2], 10, 9, training=True), [[1, 2, 7, 9]], "a model in training mode is left in it")
    same(run([7], [1, 2], 0, 9), [[1, 2]], "no new tokens leave the text as it is")
    long = run([5, 6, 9], [1, 2, 3, 4], 5, 9, context=2)
    same(long, [[1, 2, 3, 4, 5, 6, 9]], "a text longer than the context stays whole")


@exercise("4.6")
def runners_up(likeliest):
    by_hand = torch.tensor([[[0.0, math.log(3), math.log(4)]]])
    got = likeliest(by_hand, 2)
    claim(isinstance(got, (tuple, list)) and len(got) == 2, "likeliest returns two tensors: ids and probabilities")
    close(got[0], torch.tensor([[2, 1]]), "the ids of the example worked by hand")
    claim(not got[0].is_floating_point(), "ids are whole numbers")
    close(got[1], torch.tensor([[0.5, 0.375]]), "its probabilities: shares of all tokens, not of the k that are left")
    huge = torch.tensor([[[1000.0, 999.0, 0.0]]])
    probabilities = likeliest(huge, 2)[1]
    close(probabilities, torch.tensor([[0.7311, 0.2689]]), "large logits do not overflow", 1e-4)
    logits = torch.randn(3, 5, 30, generator=torch.Generator().manual_seed(4))
    before = logits.clone()
    for k in (1, 4, 30):
        ids, probabilities = likeliest(logits, k)
        want = torch.softmax(logits[:, -1], dim=-1).sort(dim=-1, descending=True)
        close(ids, want.indices[:, :k], f"the {k} likeliest ids at the last position of each text, likeliest first")
        close(probabilities, want.values[:, :k], "each with its probability")
        claim(torch.equal(logits, before), "the caller's logits are left alone")


@exercise("4.7")
def own_block(my_block, block_class, config):
    for rate, context, bias in ((0.4, 10, False), (0.15, 7, True)):
        cfg = {**config, "vocab_size": 50, "context_length": context, "emb_dim": 24, "n_heads": 4, "n_layers": 1}
        _own_block(my_block, block_class, cfg | {"drop_rate": rate, "qkv_bias": bias})


def _own_block(my_block, block_class, cfg):
    torch.manual_seed(2)
    mine, reference = my_block(dict(cfg)), block_class(cfg)
    claim(isinstance(mine, nn.Module), "a block is an nn.Module")
    missing = [name for name, _ in reference.named_children() if not hasattr(mine, name)]
    same(missing, [], "it has the parts att, ff, norm1, norm2 and drop_shortcut; these are missing")
    extra = sorted(set(mine.state_dict()) ^ set(reference.state_dict()))
    same(extra, [], "its parameters have the names of TransformerBlock's; these are missing or new")
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    mine.load_state_dict(reference.state_dict())
    x = torch.randn(2, 7, 24)
    uses = []
    hook = mine.drop_shortcut.register_forward_hook(lambda *_: uses.append(1))
    mine(x)
    hook.remove()
    same(len(uses), 2, "drop_shortcut is applied twice: to what each half adds")
    rates = [mine.drop_shortcut.p, mine.att.dropout.p]
    same(rates, [cfg["drop_rate"]] * 2, "both dropout rates, of drop_shortcut and of att, are the config's drop_rate")
    context = cfg["context_length"]
    same(len(mine.att.mask), context, "att takes texts as long as the config's context_length")
    mine.eval(), reference.eval()
    same(tuple(mine(x).shape), (2, 7, 24), "the shape stays (B, T, D)")
    edited = x.clone()
    edited[:, 4] += 1.0
    close(mine(edited)[:, :4].detach(), mine(x)[:, :4].detach(), "no output depends on a later token")
    with torch.no_grad():
        silent = my_block(dict(cfg)).eval()
        for layer in (silent.att.out_proj, silent.ff.layers[2]):
            layer.weight.zero_(), layer.bias.zero_()
        close(silent(x), x, "if both halves contribute 0, the input comes out unchanged")
    given = x.clone()
    mine(x)
    claim(torch.equal(x, given), "the caller's x is left alone")
    same(mine.att.num_heads, cfg["n_heads"], "att has as many heads as the config says")
    close(mine(x).detach(), reference(x).detach(), "with the same weights it gives the output of TransformerBlock")
    dropped = []
    for block in (mine.train(), reference.train()):
        torch.manual_seed(7)
        dropped.append(block(x).detach())
    close(*dropped, "in training, with the same random numbers, it drops the same: only what each half adds")
    mine.eval(), reference.eval()
    at_input = []
    for block in (mine, reference):
        watched = x.clone().requires_grad_()
        block(watched).square().sum().backward()
        at_input.append(watched.grad)
    close(*at_input, "the gradient reaches the input, and with it the blocks before", 1e-4)
    for (name, got), (_, want) in zip(mine.named_parameters(), reference.named_parameters()):
        close(got.grad, want.grad, f"the gradient of {name} is the same", 1e-4)
