"""Puts small faults into a chapter's carried code, one at a time, and reports which check notices each.

    python3 -m shared.tests.mutate ch02_text_data [--tests-only]

For every fault the chapter's notebook is run with the fault in its carried cell, or in the file of shared/ that the
cell calls (its own check cells are the first judge), and then the chapter's test files (the second). A fault that neither notices is printed as
SURVIVED and makes the exit status 1. Not part of the tests: it takes minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.carry import MARKER
from shared.course import ROOT, chapter_notebook
from shared.notebooks import text_of

# chapter -> (what is wrong, the code as it is, the code with the fault)
FAULTS = {
    "ch02_text_data": [
        ("last row lost", "return range(0, n_tokens - int(max_length),", "return range(0, n_tokens - int(max_length) - 1,"),
        ("targets not shifted", "token_ids[i + 1 : i + max_length + 1]", "token_ids[i : i + max_length]"),
        ("targets shifted by two", "token_ids[i + 1 : i + max_length + 1]", "token_ids[i + 2 : i + max_length + 2]"),
        ("ids as 32 bits", "dtype=torch.int64)", "dtype=torch.int32)"),
        ("too short text accepted", "if n_tokens <= max_length:", "if n_tokens < max_length:"),
        ("shuffle ignored", "DataLoader(dataset, batch_size, shuffle,", "DataLoader(dataset, batch_size, False,"),
        ("last batch always kept", "drop_last=drop_last, num_workers", "drop_last=False, num_workers"),
        ("latest merge first", "best = min(zip(tokens, tokens[1:])", "best = max(zip(tokens, tokens[1:])"),
        ("merge skips a token", "            place += 2\n", "            place += 3\n"),
        ("rarest pair merged", "best = max(pairs, key=pairs.get)", "best = min(pairs, key=pairs.get)"),
        ("pairs counted once per word", "pairs[pair] += count", "pairs[pair] += 1"),
        ("byte 173 taken as printable", "*range(174, 256)}", "*range(173, 256)}"),
        ("header line read as a merge", ".splitlines()[1:]]", ".splitlines()[0:]]"),
        ("white space before a word not spared", r"|\s+(?!\S)|\s+", r"|\s+"),
        ("special token never refused", "        if token in text:\n", "        if token in text[:0]:\n"),
        ("bytes decoded one token at a time", '.decode("utf-8", errors="replace")', '.decode("latin-1")'),
        ("unknown words keep no mark", 'get(token, unknown)', "get(token, 0)"),
    ],
    "ch03_attention": [
        ("v1 not scaled", "weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)", "weights = torch.softmax(scores, dim=-1)"),
        ("v2 softmax along the wrong dimension", "keys.shape[-1] ** 0.5, dim=-1)   # (T, T)", "keys.shape[-1] ** 0.5, dim=0)"),
        ("v1 averages the keys", "return weights @ values                                               # (T, d_out)", "return weights @ keys"),
        ("token does not see itself", ".triu(diagonal=1)", ".triu(diagonal=0)"),
        ("sees one token ahead", ".triu(diagonal=1)", ".triu(diagonal=2)"),
        ("mask upside down", ".triu(diagonal=1)", ".tril(diagonal=-1)"),
        ("masked with 0", "masked_fill(self.mask[:T, :T], -torch.inf)                 #", "masked_fill(self.mask[:T, :T], 0.0)  #"),
        ("heads not transposed", "self.head_dim)).transpose(1, 2) for p in projected)", "self.head_dim)).reshape(len(p), self.num_heads, -1, self.head_dim) for p in projected)"),
        ("scaled by the total width", "(queries / self.head_dim**0.5)", "(queries / self.d_out**0.5)"),
        ("joined without transposing back", "context.transpose(1, 2).flatten(2)", "context.reshape(len(x), x.shape[1], -1)"),
        ("no output projection", "return self.out_proj(context.transpose(1, 2).flatten(2))", "return context.transpose(1, 2).flatten(2)"),
        ("projection without bias", "nn.Linear(d_out, d_out)", "nn.Linear(d_out, d_out, bias=False)"),
        ("keys and values swapped", "self.W_query(x), self.W_key(x), self.W_value(x)                      #", "self.W_query(x), self.W_value(x), self.W_key(x)  #"),
        ("fused kernel sees the future", "is_causal=True", "is_causal=False"),
        ("fused kernel drops in eval", "rate = self.dropout.p if self.training else 0.0", "rate = self.dropout.p"),
        ("dropout left out", "self.dropout(self.attention_weights(queries, keys)) @ values", "self.attention_weights(queries, keys) @ values"),
        ("too long text accepted", "if not 1 <= x.shape[1] <= context_length:", "if not 1 <= x.shape[1]:"),
        ("width not checked", "if by < 1 or value % by != 0:", "if by < 1:"),
        ("mask hinders loading", 'if name.rpartition(".")[2] != "mask"', "if True"),
    ],
    "ch04_gpt_model": [
        ("norm without scale", "x, self.scale.shape, self.scale, self.shift, self.eps)", "x, self.scale.shape, None, self.shift, self.eps)"),
        ("another eps", "self.eps = 1e-5", "self.eps = 1e-2"),
        ("exact GELU", 'approximate="tanh"', 'approximate="none"'),
        ("feed forward without GELU", "            GELU(),\n", "            nn.Identity(),\n"),
        ("feed forward twice as wide only", "4 * cfg[\"emb_dim\"]),\n            GELU()", "2 * cfg[\"emb_dim\"]),\n            GELU()"),
        ("norm after attention", "self.drop_shortcut(self.att(self.norm1(x)))", "self.drop_shortcut(self.norm1(self.att(x)))"),
        ("no shortcut around attention", "x = x + self.drop_shortcut(self.att(self.norm1(x)))", "x = self.drop_shortcut(self.att(self.norm1(x)))"),
        ("one norm used twice", "self.ff(self.norm2(x))", "self.ff(self.norm1(x))"),
        ("no dropout on the shortcut", "return x + self.drop_shortcut(self.ff(self.norm2(x)))", "return x + self.ff(self.norm2(x))"),
        ("no positions", "return self.tok_emb(in_idx) + self.pos_emb(positions)  ", "return self.tok_emb(in_idx) + 0 * self.pos_emb(positions)  "),
        ("no dropout on the embeddings", "x = self.drop_emb(self.embed(in_idx, positions))", "x = self.embed(in_idx, positions)"),
        ("no final norm", "return self.final_norm(self.trf_blocks(x))", "return self.trf_blocks(x)"),
        ("head with bias", 'nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False, device', 'nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=True, device'),
        ("one block shared by all layers", "*[TransformerBlock(cfg) for _ in range(cfg[\"n_layers\"])]", "*[TransformerBlock(cfg)] * cfg[\"n_layers\"]"),
        ("head created before the blocks", "self.final_norm = LayerNorm(cfg[\"emb_dim\"])\n", "self.final_norm = LayerNorm(cfg[\"emb_dim\"])\n        nn.Linear(2, 2)\n"),
        ("tied weights copied", "self.out_head.weight = self.tok_emb.weight", "self.out_head.weight = nn.Parameter(self.tok_emb.weight.detach().clone())"),
        ("negative ids accepted", "if lowest < 0 or highest >= vocab_size:", "if highest >= vocab_size:"),
        ("id V accepted", "highest >= vocab_size:", "highest > vocab_size:"),
        ("writes from the first position", "logits[:, -1].argmax", "logits[:, 0].argmax"),
        ("unlikeliest token", ".argmax(dim=-1, keepdim=True)           #", ".argmin(dim=-1, keepdim=True)  #"),
        ("keeps the first tokens of the context", "idx[:, -context_size:]", "idx[:, :context_size]"),
        ("gradients recorded while writing", "@torch.no_grad()\n", ""),
    ],
    "ch05_pretraining": [
        ("special token read as text", 'tokenizer.encode(text, allowed_special={"<|endoftext|>"})], dtype', "tokenizer.encode(text, disallowed_special=())], dtype"),
        ("ids as floats", "dtype=torch.int64)", "dtype=torch.float32)"),
        ("batch decoded as one text", "if ids.ndim > 1 and ids.shape[0] != 1:", "if False:"),
        ("windows counted without their target", "if n_tokens > context_length else 0", "if n_tokens > context_length + 1 else 0"),
        ("full batches not asked for", "rows // batch_size if drop_last else", "-(-rows // batch_size) if drop_last else"),
        ("CPU before CUDA", 'return torch.device("cuda")', 'return torch.device("cpu")'),
        ("any Apple GPU trusted", 'if agrees_with_cpu("mps"):', "if True:"),
        ("mode not restored", "module.training = was_training", "module.training = True"),
        ("dropout while measuring", "    model.eval()\n", "    model.train()\n"),
        ("mean of batch means", "total += n * loss_fn", "total += loss_fn"),
        ("ignored targets counted", "n = (target_batch != -100).sum().item()", "n = target_batch.numel()"),
        ("one batch too many", "if number == num_batches:", "if number > (num_batches or 1e9):"),
        ("gradients not zeroed", "            optimizer.zero_grad()\n            loss = calc", "            loss = calc"),
        ("step before the gradients", "            loss.backward()\n            optimizer.step()\n", "            optimizer.step()\n            loss.backward()\n"),
        ("rows counted as tokens", "            tokens_seen += input_batch.numel()", "            tokens_seen += len(input_batch)"),
        ("measured one step late", "if eval_freq and global_step % eval_freq == 0:", "if eval_freq and global_step % eval_freq == 1:"),
        ("losses swapped", "val_losses.append(val_loss)", "val_losses.append(train_loss)"),
        ("temperature multiplied", "torch.softmax(shifted / max(temperature, ", "torch.softmax(shifted * max(temperature, "),
        ("tiny temperature overflows", "shifted = logits - logits.amax(dim=-1, keepdim=True)", "shifted = logits"),
        ("k + 1 kept", "logits.topk(min(int(k), logits.shape[-1]), dim=-1)", "logits.topk(min(k + 1, logits.shape[-1]), dim=-1)"),
        ("large k not clamped", "logits.topk(min(int(k), logits.shape[-1]), dim=-1)", "logits.topk(k, dim=-1)"),
        ("top-p leaves out the token that reaches p", "torch.where(likelier < p, ranked, 0.0)", "torch.where(ranked.cumsum(dim=-1) < p, ranked, 0.0)"),
        ("top-p not rescaled", "kept / kept.sum(dim=-1, keepdim=True))", "kept)"),
        ("top-p before the temperature", "    probabilities = softmax_with_temperature(logits, temperature)         # (B, V)\n    if top_p is not None:\n        probabilities = keep_top_p(probabilities, top_p)\n", "    if top_p is not None:\n        logits = keep_top_p(torch.softmax(logits, dim=-1), top_p).log()\n    probabilities = softmax_with_temperature(logits, temperature)\n"),
        ("cached positions begin at 0", "positions = torch.arange(start, end, device=ids.device)\n    # (T", "positions = torch.arange(end - start, device=ids.device)\n    # (T"),
        ("new tokens see the future", "if ids.shape[1] > 1 else None", "if False else None"),
        ("cache forgets its length", "    cache.length = end\n", "    cache.length = ids.shape[1]\n"),
        ("keys and values swapped in the cache", "stored[0, :, :, start:end], stored[1, :, :, start:end] = keys, values", "stored[1, :, :, start:end], stored[0, :, :, start:end] = keys, values"),
        ("cache used past the context", "if cache is None or idx.shape[1] > context_size:", "if cache is None:"),
        ("one end ends all", "if ended.all():\n                    break\n            idx", "if ended.any():\n                    break\n            idx"),
        ("ended text goes on", "newest = newest.masked_fill(ended, eos_id)", "newest = newest"),
        ("generate in training mode", "    with eval_mode(model), packed_weights(model, n_passes=max_new_tokens):\n", "    with torch.no_grad():\n"),
        ("beams not reordered", "torch.cat([beams[row], newest", "torch.cat([beams.expand(len(row), -1) if len(beams) != len(row) else beams, newest"),
        ("length penalty ignored", "scores / lengths.clamp(min=1) ** length_penalty", "scores / lengths.clamp(min=1) ** 0"),
        ("batches used are not skipped", "for _ in range(progress.batch):", "for _ in range(0):"),
        ("random numbers not put back", "    if progress.batch:\n        set_random_state(now)\n", ""),
        ("optimizer state not restored", "optimizer.load_state_dict(copy.deepcopy(checkpoint[\"optimizer_state_dict\"]))", "pass"),
        ("packed weights without their bias", "return product(self.packed, layer.bias, x)", "return product(self.packed, None, x)"),
        ("packed weights never let go", "            del layer.forward\n", "            pass\n"),
        ("changed weights not seen", " and layer.weight._version == self.version", ""),
        ("packed weights where gradients are asked for", " and not torch.is_grad_enabled()", ""),
        ("gradient of the inputs for the weights", "if for_weight else None", "if for_x else None"),
        ("gradient of the weights halved", "None, rows.T) if for_weight", "None, rows.T) / 2 if for_weight"),
        ("oneDNN under autocast too", 'and not torch.is_autocast_enabled("cpu") ', ""),
        ("initial values drawn after all", '== "torch.nn.init"', '== "torch.nn.inits"'),
        ("rows left for neighbours", "return rows.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)", "return rows"),
        ("base of the speeds ignored", "rotate(queries, positions, self.rope_base), rotate(keys, positions, self.rope_base)", "rotate(queries, positions), rotate(keys, positions)"),
        ("keys not turned", "rotate(keys, positions, self.rope_base), values", "keys, values"),
        ("eps of the norm ignored", "(RMSNorm(cfg[\"emb_dim\"], cfg[\"norm_eps\"]) for _ in range(2))", "(RMSNorm(cfg[\"emb_dim\"]) for _ in range(2))"),
        ("gate and up swapped", "ffn_gate.weight\", ff.gate.weight, None", "ffn_gate.weight\", ff.up.weight, None"),
        ("digits not cut off", r'regex.findall(r"\p{N}|\P{N}+", text)', "[text]"),
        ("bytes without a token stop it", "for byte in piece.encode() if bytes([byte]) in self.id_of]", "for byte in piece.encode()]"),
        ("marks in a message read as marks", 'f"{role}\\n{text}", disallowed_special=())', 'f"{role}\\n{text}", allowed_special="all")'),
        ("exported rows not put back", "yield name, neighbours_from_halves(parameter, n_heads) if n_heads else parameter", "yield name, parameter"),
        ("own head not exported", "gpt2_layout(model, own_head=model.out_head.weight is not model.tok_emb.weight)", "gpt2_layout(model)"),
        ("left-over tensors of a GGUF accepted", "            if name not in wanted:\n                raise ValueError(f\"{self.path}", "            if False:\n                raise ValueError(f\"{self.path}"),
        ("GGUF cut short accepted", "if begin + offset + n_bytes > self.n_bytes:", "if False:"),
        ("norms exported in 16 bits", 'form = "F32" if array.ndim == 1 or', 'form = "F32" if array.ndim == 0 or'),
        ("merges written in another order", "sorted(tokenizer.ranks, key=tokenizer.ranks.get)", "sorted(tokenizer.ranks)"),
        ("checkpoint written in place", "with whole_file(path) as file:\n            torch.save", 'with open(path, "wb") as file:\n            torch.save'),
        ("heads not compared", "        if there != here:", "        if False:"),
        ("matrices not transposed", "piece.contiguous().T if transposed else piece", "piece.reshape(parameter.shape)"),
        ("left-over arrays accepted", "        if name not in wanted:\n            raise", "        if False:\n            raise"),
        ("another activation accepted", '    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),\n', ""),
        ("files outside of the folder read", "Path(name).name != name", "False"),
        ("head copied", "gpt.out_head.weight = gpt.tok_emb.weight", "gpt.out_head.weight = torch.nn.Parameter(gpt.tok_emb.weight.detach().clone())"),
        ("norms swapped", '(("ln_1", block.norm1), ("ln_2", block.norm2))', '(("ln_1", block.norm2), ("ln_2", block.norm1))'),
        ("exported with exact GELU", '"activation_function": "gelu_new"', '"activation_function": "gelu"'),
    ],
    "appendix_d_training_loop": [
        ("scales of the columns", "scales = weight.abs().amax(dim=1) / 127", "scales = weight.abs().amax(dim=0)[0] / 127 * torch.ones(len(weight))"),
        ("scales forgotten", "numbers, scales.bfloat16())", "numbers, torch.ones_like(scales).bfloat16())"),
        ("output layer in 8 bits", "for part in model.trf_blocks.modules():\n        for name, child", "for part in model.modules():\n        for name, child"),
        ("bias of 8 bits forgotten", "product if self.bias is None else product + self.bias", "product"),
        ("file ids signed", 'ids.astype("<u2")', 'ids.astype("<i2").byteswap()'),
        ("text cut behind the white space", r"(?<=\S)(?=\s) ", r"(?<=\s)(?=\S) "),
        ("text cut behind an apostrophe", r"(?<=[^\s\p{L}\p{N}'])", r"(?<=[^\s\p{L}\p{N}])"),
        ("end of text cut in two", r"(?<!<\|)(?=\p{L})", r"(?=\p{L})"),
        ("rest of the text lost", "    if held:\n        yield held", "    if False:\n        yield held"),
        ("file row one token short", "start + self.max_length + 1]", "start + self.max_length]"),
        ("map sent to workers", '{**self.__dict__, "tokens": None}', "dict(self.__dict__)"),
        ("warmup one step ahead", "initial_lr + current_step * (peak", "initial_lr + (current_step + 1) * (peak"),
        ("quarter of a cosine", "(1 + math.cos(math.pi * progress)) / 2", "math.cos(math.pi / 2 * progress)"),
        ("rises again after the end", "    if step >= total_steps:\n        return min_lr\n", ""),
        ("decay begins one step late", "progress = (step - warmup_steps) / (total", "progress = (step - warmup_steps - 1) / (total"),
        ("signed maximum", "parameter.grad.abs().max()", "parameter.grad.max()"),
        ("NaN not noticed", "if not math.isfinite(norm):", "if math.isinf(norm):"),
        ("peak read from the decayed rate", '.setdefault("peak_lr", optimizer.param_groups[0]["lr"])', '["lr"]'),
        ("only the first group gets the rate", "for group in optimizer.param_groups:", "for group in optimizer.param_groups[:1]:"),
        ("measuring draws random numbers", "with undisturbed():\n                        train_loss", "if True:\n                        train_loss"),
        ("random numbers of the block seeded by the clock", "        torch.manual_seed(seed)\n        try:", "        try:"),
        ("clipped after the step", "                norm = clip_gradients(model, max_norm, global_step)\n                optimizer.step()\n", "                optimizer.step()\n                norm = clip_gradients(model, max_norm, global_step)\n"),
        ("gradients add up over the steps", "                optimizer.zero_grad()\n                global_step", "                global_step"),
        ("rate of the step before", "lr = lr_at_step(global_step, total", "lr = lr_at_step(max(global_step - 1, 0), total"),
        ("mean of the pieces' means", "(count / sum(counts))", "(1 / len(batches))"),
        ("ignored targets count", "[(targets != -100).sum().item() for", "[targets.numel() for"),
        ("vectors decay", '"weight_decay": 0.0}', '"weight_decay": weight_decay}'),
        ("gradient from above ignored for the head", "head_grad * from_above", "head_grad"),
        ("only the last piece's loss", "total += loss.detach()", "total = loss.detach()"),
        ("pieces of the mean", "loss = torch.nn.functional.cross_entropy(logits, wanted, reduction=\"sum\")", "loss = torch.nn.functional.cross_entropy(logits, wanted)"),
        ("sharding saves nothing", "16 * n_parameters / n_devices / 1e9", "16 * n_parameters / 1e9"),
    ],
    "ch06_classification": [
        ("quotes joined", "quoting=csv.QUOTE_NONE,\n                        keep", "quoting=csv.QUOTE_MINIMAL,\n                        keep"),
        ("the text NA read as missing", "keep_default_na=False, encoding=\"utf-8\")\n    guards.labelled_texts(table, labels=(\"ham\"", "keep_default_na=True, encoding=\"utf-8\")\n    guards.labelled_texts(table, labels=(\"ham\""),
        ("another draw each time", "sample(len(spam), random_state=123)", "sample(len(spam))"),
        ("not shuffled", "df = df.sample(frac=1, random_state=123).reset_index(drop=True)", "df = df.reset_index(drop=True)"),
        ("a row in two parts", "df[validation_end:]", "df[validation_end - 1:]"),
        ("spread of the simple formula", "+ z2 / (4 * n * n)", ""),
        ("filled up on the left", "[ids + [pad_token_id] * (self.max_length - len(ids)) for ids in encoded]", "[[pad_token_id] * (self.max_length - len(ids)) + ids for ids in encoded]"),
        ("not cut", "disallowed_special=())[:max_length] for text in self.data", "disallowed_special=()) for text in self.data"),
        ("all blocks learn", "for part in (model.trf_blocks[-1], model.final_norm):", "for part in (model.trf_blocks, model.final_norm):"),
        ("final norm frozen", "for part in (model.trf_blocks[-1], model.final_norm):", "for part in (model.trf_blocks[-1],):"),
        ("last column", "return (ids != pad_token_id).sum(dim=-1) - 1", "return (ids != pad_token_id).sum(dim=-1) * 0 + ids.shape[1] - 1"),
        ("one before the last real token", "return (ids != pad_token_id).sum(dim=-1) - 1", "return ((ids != pad_token_id).sum(dim=-1) - 2).clamp(min=0)"),
        ("accuracy in per cent", "== labels).float().mean().item()", "== labels).float().mean().item() * 100"),
        ("dropout while predicting", "    with eval_mode(model):\n        pairs", "    with torch.no_grad():\n        pairs"),
        ("longest rows left out", "kept = torch.randperm(len(self.lengths))[: len(self) * self.batch_size].tolist()", "kept = sorted(range(len(self.lengths)), key=lambda row: self.lengths[row])[: len(self) * self.batch_size]"),
        ("batches in the order of length", "for batch in torch.randperm(len(self)).tolist():", "for batch in range(len(self)):"),
        ("rows not sorted", "        kept.sort(key=lambda row: self.lengths[row])", "        pass"),
        ("cut one column too short", "ids[:, : last_real(ids, pad_token_id).max() + 1]", "ids[:, : last_real(ids, pad_token_id).max().clamp(min=1)]"),
        ("gradients not zeroed", "            optimizer.zero_grad()\n            loss_fn", "            loss_fn"),
        ("batches counted as examples", "examples_seen += len(target_batch)", "examples_seen += 1"),
        ("first loss measured late", "if eval_freq and step % eval_freq == 0:", "if eval_freq and (step + 1) % eval_freq == 0:"),
        ("validation accuracy of the training part", "val_accs.append(calc_accuracy_loader(val_loader", "val_accs.append(1 - calc_accuracy_loader(val_loader"),
        ("curves begin at 0", "axes.plot(epochs_seen, val_values", "axes.plot([x - 1 for x in epochs_seen], val_values"),
        ("width taken for the context", "min(max_length or model.context_length, model.context_length)", "min(max_length or model.context_length, model.tok_emb.embedding_dim)"),
        ("probability of ham", "softmax(dim=-1)[0, 1].item()", "softmax(dim=-1)[0, 0].item()"),
        ("precision and recall swapped", "return found / n_called if n_called else float(\"nan\"), found / n_spam if n_spam else float(\"nan\")", "return found / n_spam if n_spam else float(\"nan\"), found / n_called if n_called else float(\"nan\")"),
        ("occlusion with the wrong sign", "[(word, whole - score) for", "[(word, score - whole) for"),
    ],
    "ch07_instruction": [
        ("input's heading without input", "if entry[\"input\"] else text", "if True else text"),
        ("heading of the response in the task", "return text + f\"\\n\\n### Input:", "return text + RESPONSE_HEADING + f\"\\n\\n### Input:"),
        ("test before training", "return data[:train_end], data[train_end:test_end], data[test_end:]", "return data[train_end:test_end], data[:train_end], data[test_end:]"),
        ("an entry lost", "data[test_end:]", "data[test_end + 1:]"),
        ("letters read as the end", "tokenizer.encode(format_entry(entry), disallowed_special=())", "tokenizer.encode(format_entry(entry), allowed_special=\"all\")"),
        ("only the task", "tokenizer.encode(format_entry(entry)", "tokenizer.encode(format_input(entry)"),
        ("no end", "row[1:] + [pad_token_id] + [ignore_index] * (longest - len(row))", "row[1:] + [ignore_index] + [ignore_index] * (longest - len(row))"),
        ("padding counts", "[pad_token_id] + [ignore_index] * (longest", "[pad_token_id] + [pad_token_id] * (longest"),
        ("targets not moved", "targets = [row[1:] + [pad_token_id] +", "targets = [row +"),
        ("not cut", "torch.tensor(side)[:, :allowed_max_length]", "torch.tensor(side)"),
        ("cut on the wrong side", "[:, :allowed_max_length]", "[:, -(allowed_max_length or 0):]"),
        ("padding on the left", "inputs = [row + [pad_token_id] * (longest - len(row)) for row in batch]", "inputs = [[pad_token_id] * (longest - len(row)) + row for row in batch]"),
        ("answer with the prompt", "decode(ids[0, prompt.shape[1]:]", "decode(ids[0]"),
        ("blanks around the answer", "prompt.shape[1]:].tolist()).strip()", "prompt.shape[1]:].tolist())"),
        ("does not stop", ", eos_id=eos_id, **sampling)", ", **sampling)"),
        ("F1 as a percentage", "[\"f1\"].item() / 100", "[\"f1\"].item()"),
        ("positions by column", "positions = (columns - n_padding[:, None]).clamp(min=0)", "positions = columns.expand(len(ids), -1)"),
        ("filling seen", "return ((key < query) & real | (key == query))[:, None]", "return ((key <= query) & (real | True))[:, None]"),
        ("later tokens seen", "((key < query) & real", "((key < query + 2) & real"),
        ("token does not see itself", "| (key == query))[:, None]", "| (key == query) & ~real)[:, None]"),
        ("filling on the right", "[pad_token_id] * (longest - len(row)) + row for row in prompts", "row + [pad_token_id] * (longest - len(row)) for row in prompts"),
        ("one stream for all", "torch.multinomial(row, 1, generator=stream)", "torch.multinomial(row, 1, generator=streams[0])"),
        ("top_p before the temperature's softmax left out", "p = p if top_p is None else keep_top_p(p, top_p)", "p = p if top_p is None else keep_top_p(p, 1.0)"),
        ("streams of other rows after one has ended", "[streams[row] for row in rows]", "streams[: len(rows)]"),
        ("filling not shortened past the context", "(n_padding - beyond).clamp(min=0))", "n_padding)"),
        ("ended rows stay", "if not going.all():", "if not going.any():"),
        ("cache of other rows", "cache.keys_values[:, :, going]", "cache.keys_values[:, :, : going.sum()]"),
        ("answers in the order of length", "answers[place] = ids", "answers[by_length.index(place)] = ids"),
        ("seed of the place in the batch", "seed + place for place in places", "seed + i for i, _ in enumerate(places)"),
        ("one target of the task counts", "row[: len(prompt) - 1] = -100", "row[: len(prompt) - 2] = -100"),
        ("first token of the answer does not count", "row[: len(prompt) - 1] = -100", "row[: len(prompt)] = -100"),
        ("DPO without the reference", "(policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)", "policy_chosen - policy_rejected"),
        ("DPO upside down", "logsigmoid(beta * margin)", "logsigmoid(-beta * margin)"),
        ("DPO without beta", "logsigmoid(beta * margin)", "logsigmoid(margin)"),
        ("probabilities of rows mixed", "index_add(0, row, losses)", "index_add(0, row.flip(0), losses)"),
        ("any number is a score", "re.fullmatch(", "re.search("),
        ("scores above 100", "if found and int(found[1]) <= 100 else None", "if found else None"),
        ("silence counted as 0", "scores += [] if score is None else [score]", "scores += [score or 0]"),
        ("never gives up", "or in_a_row == 3", "or in_a_row == 3_000"),
        ("silences add up", "        in_a_row = 0\n", ""),
        ("same order twice", "((first_key, second_key), (second_key, first_key))", "((first_key, second_key), (first_key, second_key))"),
        ("not repeatable", "\"temperature\": 0, ", ""),
    ],
    "appendix_e_lora": [
        ("alpha alone", "return (self.alpha / self.rank) * (x @ self.A @ self.B)", "return self.alpha * (x @ self.A @ self.B)"),
        ("B random", "torch.zeros(rank, out_dim)", "torch.randn(rank, out_dim)"),
        ("A zero", "torch.empty(in_dim, rank).uniform_(-(in_dim**-0.5), in_dim**-0.5)", "torch.zeros(in_dim, rank)"),
        ("spread of A by the rank", "uniform_(-(in_dim**-0.5), in_dim**-0.5)", "uniform_(-(rank**-0.5), rank**-0.5)"),
        ("only the addition", "return self.linear(x) + self.lora(x)", "return self.lora(x)"),
        ("always float32", "rank, alpha).to(linear.weight)", "rank, alpha)"),
        ("adapters on adapters", "            parent.lora.requires_grad_(True)\n            continue\n", "            parent.lora.requires_grad_(True)\n"),
        ("adapters stay frozen when prepared again", "            parent.lora.requires_grad_(True)\n", ""),
        ("top level only", "for parent in list(model.modules()):", "for parent in [model]:"),
        ("targets ignored", "and (targets is None or name in targets)", ""),
        ("head wrapped", "replace_linear_with_lora(model.trf_blocks, rank, alpha, targets)", "replace_linear_with_lora(model, rank, alpha, targets)"),
        ("last block learns too", "    model.requires_grad_(False)\n    model.out_head", "    model.out_head"),
        ("merged without turning", "(lora.A @ lora.B).T", "(lora.A @ lora.B).reshape(linear.weight.shape)"),
        ("merged without the scale", "linear.weight += (lora.alpha / lora.rank) * ", "linear.weight += "),
        ("fingerprint of everything", "        if not parameter.requires_grad:\n            digest", "        if True:\n            digest"),
        ("fit not checked", "    guards.adapter_fits(tensors, settings, own, own_settings, path)\n", ""),
        ("head left out of the adapter", "for name, p in model.named_parameters() if p.requires_grad}\n    scales", "for name, p in model.named_parameters() if \".lora.\" in name}\n    scales"),
    ],
}  # fmt: skip


# Files that a chapter's carried code calls, and what judges them besides the chapter's own test files.
SHARED = ("guards.py", "checkpoints.py", "token_files.py", "gpt2_files.py", "gguf_files.py", "fast_linear.py", "empty_models.py")
ALSO = {"appendix_d": ("test_token_files.py", "test_fast_linear.py"), "ch05": ("test_gpt2_files.py", "test_fast_linear.py")}


def with_fault(chapter, old, new):
    """The chapter's notebook and the shared files by name, ``old`` replaced in the one carried cell or file of it."""
    notebook = chapter_notebook(chapter)
    book = json.loads(notebook.read_text(encoding="utf-8"))
    carried = [cell for cell in book["cells"] if text_of(cell["source"]).startswith(MARKER)]
    hit = [cell for cell in carried if old in text_of(cell["source"])]
    texts = {name: (ROOT / "shared" / name).read_text(encoding="utf-8") for name in SHARED}
    files = [name for name, text in texts.items() if old in text]
    if len(hit) + len(files) != 1:
        raise ValueError(f"{old!r} stands in {len(hit)} carried cells of {notebook.name} and in {files}; it must be one")
    if hit:
        hit[0]["source"] = text_of(hit[0]["source"]).replace(old, new)
    return book, texts | {name: texts[name].replace(old, new) for name in files}


def put_in(chapter, copy, old, new):
    """Write a fault into a copy of the course."""
    book, texts = with_fault(chapter, old, new)
    chapter_notebook(chapter, copy).write_text(json.dumps(book), encoding="utf-8")
    for name, text in texts.items():
        (copy / "shared" / name).write_text(text, encoding="utf-8")


def first_failing_cell(path, env):
    """Run a notebook; returns the first line of the cell that fails, or None."""
    from nbclient import NotebookClient, exceptions
    from nbformat import read

    book = read(path, as_version=4)
    try:
        NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute(
            env=env
        )
    except exceptions.CellExecutionError:
        failed = next(cell for cell in book.cells if any(o.output_type == "error" for o in cell.get("outputs", [])))
        error = next(o for o in failed.outputs if o.output_type == "error")
        return f"cell {book.cells.index(failed) + 1}, {error.ename}"
    except (exceptions.CellTimeoutError, TimeoutError):
        return "a cell that does not end"
    return None


def main(chapter, *options):
    """Try every fault of a chapter; returns 1 if one survives. With ``--tests-only`` the notebook is not run."""
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "course"
        skip = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=skip)
        notebook = chapter_notebook(chapter, copy)
        number = notebook.stem
        env = {**os.environ, "COURSE_SCALE": "small", "COURSE_OFFLINE": "1", "PYTHONPATH": str(copy)}
        for what, old, new in FAULTS[chapter]:
            put_in(chapter, copy, old, new)
            cell = None if "--tests-only" in options else first_failing_cell(notebook, env)
            pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
            tests = copy / "shared" / "tests"
            files = [*sorted(tests.glob(f"test_{number}*.py")), *(tests / name for name in ("test_guards.py", *ALSO.get(number, ())))]
            command = [*pytest, *map(str, files)]
            tests = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=600)
            lines = tests.stdout.splitlines()
            failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
            noticed = "; ".join([cell] * bool(cell) + failed[:1]) or "SURVIVED"
            survived += noticed == "SURVIVED"
            print(f"{what}: {noticed}", flush=True)
    print(f"{len(FAULTS[chapter]) - survived} of {len(FAULTS[chapter])} faults noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
