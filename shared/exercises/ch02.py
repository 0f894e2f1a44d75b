"""Checks of the exercises of chapter 2."""

import math
import re

import tiktoken
import torch

from shared.assets import use_offline_vocabulary
from shared.exercises import ClaimFailed, claim, close, exercise, must_raise, same

# Running text with the things that trip a loader or a splitter: dialogue, dashes, line breaks.
_TEXT = (
    'The lamp went out--twice. "Who is there?" asked the keeper; nobody answered.\n\n'
    "He counted the steps (there were ninety-one), took his coat, and went down to see.\n"
) * 3


_BORDER = re.compile(r'([,.:;?_!"()\']|--|\s)')


def _gpt2():
    use_offline_vocabulary()
    return tiktoken.get_encoding("gpt2")


@exercise("2.1")
def pieces_of_unknown_words(pieces):
    tokenizer = _gpt2()
    want = [(33901, "Ak"), (86, "w"), (343, "ir"), (86, "w"), (220, " "), (959, "ier")]
    got = pieces("Akwirw ier")
    claim(isinstance(got, list), f"pieces returns a list of pairs; yours returned a {type(got).__name__}")
    claim(all(isinstance(pair, tuple) and len(pair) == 2 for pair in got), "each entry is a pair (id, piece)")
    same([pair[0] for pair in got], [pair[0] for pair in want], "the ids are those of the whole string, in its order")
    same([pair[1] for pair in got], [pair[1] for pair in want], "beside each id stands what that id alone decodes to")
    same("".join(piece for _, piece in got), "Akwirw ier", "the pieces, put side by side, are the input")
    other = pieces(" zorbled, twice")
    same([pair[0] for pair in other], tokenizer.encode(" zorbled, twice"), "it works for other text as well")
    same("".join(piece for _, piece in other), " zorbled, twice", "a leading space is part of a piece")
    for text in ["Two  Two two\n\nand SO on ", "a\tb\r\nc, and so on, and on and on", "🤗"]:
        want = [(token_id, tokenizer.decode([token_id])) for token_id in tokenizer.encode(text)]
        same(pieces(text), want, f"it works for {text!r}, with its spaces, line breaks and repetitions")
    same(pieces(""), [], "the empty text has no pieces")


@exercise("2.2")
def other_loader_settings(first_batch, shared_tokens):
    for text, length, stride in [(_TEXT, 2, 2), (_TEXT, 8, 2), (_TEXT[::-1], 5, 3)]:
        ids = _gpt2().encode(text)
        got = first_batch(text, length, stride)
        settings = f"max_length={length}, stride={stride}"
        claim(isinstance(got, (tuple, list)) and len(got) == 2, "first_batch returns two tensors: inputs and targets")
        inputs = torch.tensor([ids[i : i + length] for i in range(0, 4 * stride, stride)])
        targets = torch.tensor([ids[i + 1 : i + length + 1] for i in range(0, 4 * stride, stride)])
        close(got[0], inputs, f"the inputs for {settings}, in the order of the text")
        close(got[1], targets, f"the targets for {settings}")
        claim(got[0].dtype == got[1].dtype == torch.int64, "ids are of type int64, as the loader gives them")
    for length, stride in [(2, 2), (8, 2), (8, 8), (3, 5), (4, 1)]:
        same(
            shared_tokens(length, stride),
            max(0, length - stride),
            f"how many tokens neighbouring rows share with max_length={length}, stride={stride}",
        )


@exercise("2.3")
def lossless_split(split):
    for text in [
        _TEXT,
        'Well!--she said: "No."',
        "a\r\nb \x0c c",
        "  two  spaces\tand a tab ",
        "line one\n\n\nline three\n",
        "it's snake_case (maybe)",
        "In 1882 he paid $5 for ninety-one cafés — *two* in Köln, 3 a 猫",
        "",
    ]:
        got = split(text)
        claim(isinstance(got, list), f"split returns a list; yours returned a {type(got).__name__}")
        claim(all(isinstance(token, str) for token in got), "every token is a string")
        same("".join(got), text, "the tokens, put side by side, are the text again")
        claim("" not in got, f"no token is empty (there is one in the tokens of {text[:20]!r})")
        visible = [item for item in _BORDER.split(text) if item.strip()]
        same([token for token in got if token.strip()], visible, "without white space, they are those of split_words")
    tokens = split('He paused--then, "Go on."')
    for piece in ["He", "paused", "--", "then", ",", '"', "Go", "on", "."]:
        claim(piece in tokens, f"{piece!r} is a token of its own in 'He paused--then, \"Go on.\"'")
    for sign in [*",.:;?_!\"()'", "--", " ", "\t", "\n"]:
        tokens = split(f"ninety{sign}one")
        claim(tokens == ["ninety", sign, "one"], f"{sign!r} separates two words, and is a token of its own")
    same(split("extraordinarily"), ["extraordinarily"], "a word without signs in it stays whole")


@exercise("2.5")
def number_of_windows(count_windows):
    for n in range(40):
        for length in range(1, 9):
            for stride in range(1, 9):
                want = len(range(0, n - length, stride))
                got = count_windows(n, length, stride)
                claim(
                    got == want,
                    f"for n={n}, max_length={length}, stride={stride} the number of rows is {want}; yours gave {got}",
                )
    same(count_windows(5145, 256, 128), math.ceil((5145 - 256) / 128), "it is right for a long text")
    same(count_windows(100, 64, 7), 6, "it is right for long rows")
    claim(isinstance(count_windows(9, 4, 2), int), "the number of rows is a whole number of type int")


@exercise("2.4")
def packed_documents(pack):
    end = _gpt2().encode("<|endoftext|>", allowed_special={"<|endoftext|>"})[0]
    documents = ["One two three.", "Four five.", "Six!"]
    encode = _gpt2().encode
    want = []
    for text in documents:
        want += [*encode(text), end]
    handed_over = list(documents)
    got = pack(handed_over)
    same(handed_over, documents, "the caller's list is left alone")
    claim(isinstance(got, list), f"pack returns a list of ids; yours returned a {type(got).__name__}")
    claim(all(isinstance(token_id, int) for token_id in got), "the ids are in one flat list of whole numbers")
    claim(end in got, f"documents are separated by the end-of-text id {end}")
    claim(got.count(end) == len(documents), f"there is one end-of-text id for each of the {len(documents)} documents")
    claim(got[-1:] == [end], "the last document is closed as well")
    same(got, want, "between the separators stand the ids of each document, unchanged and in order")
    same(pack([]), [], "no documents give no ids")
    same(pack(["", "a"]), [end, *encode("a"), end], "an empty document is a document, too, and has its end")
    twice = [*encode("a\nb "), end]
    same(pack(["a\nb ", "a\nb "]), [*twice, *twice], "equal documents stay, and so does their white space")
    tricky = "A page that mentions <|endoftext|> in passing."
    inside = encode(tricky, disallowed_special=())
    same(
        pack([tricky]),
        [*inside, end],
        "the separator spelled out inside a document is ordinary text: only pack() ends a document",
    )


@exercise("2.6")
def input_embeddings(embed):
    generator = torch.Generator().manual_seed(6)
    token_weight = torch.randn(11, 5, generator=generator)
    pos_weight = torch.randn(7, 5, generator=generator)
    before = token_weight.clone(), pos_weight.clone()
    ids = torch.tensor([[3, 0, 3, 10], [1, 1, 1, 1]])
    got = embed(ids, token_weight, pos_weight)
    claim(isinstance(got, torch.Tensor), f"embed returns a tensor; yours returned a {type(got).__name__}")
    same(tuple(got.shape), (2, 4, 5), "the result has shape (B, T, D)")
    claim(not torch.allclose(got[0, 0], got[0, 2]), "the same id at another position gets another vector")
    want = token_weight[ids] + pos_weight[:4]
    close(got, want, "entry (b, t) is row ids[b, t] of the token weight plus row t of the position weight")
    full = torch.zeros(1, 7, dtype=torch.long)
    try:
        got = embed(full, token_weight, pos_weight)
    except ValueError as error:
        raise ClaimFailed(f"7 tokens with 7 positions are accepted. Yours raised ValueError: {error}") from error
    close(got, token_weight[full] + pos_weight, "7 tokens with 7 positions get all the positions")
    too_long = torch.zeros(1, 8, dtype=torch.long), token_weight, pos_weight
    error = must_raise(ValueError, "8 tokens with 7 positions raise a ValueError", embed, *too_long)
    claim("8" in str(error) and "7" in str(error), "the message of the ValueError names both numbers, 8 and 7")
    few = torch.zeros(1, 4, dtype=torch.long), token_weight, pos_weight[:3]
    must_raise(ValueError, "4 tokens with 3 positions raise a ValueError, too", embed, *few)
    one_place = torch.zeros(1, 4, dtype=torch.long), token_weight, pos_weight[:1]
    must_raise(ValueError, "4 tokens with a single position raise a ValueError, too", embed, *one_place)
    trainable = [weight.clone().requires_grad_() for weight in (token_weight, pos_weight)]
    result = embed(ids, *trainable)
    claim(result.requires_grad, "gradients reach the weights: they are to be trained")
    result.sum().backward()
    words = "gradients reach the two weights that were given, not copies of them"
    claim(all(weight.grad is not None for weight in trainable), words)
    close(token_weight, before[0], "the caller's token weight is left alone")
    close(pos_weight, before[1], "the caller's position weight is left alone")
