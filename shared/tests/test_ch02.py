"""Chapter 2's code against tiktoken, plain loops, and the figures known for The Verdict."""

import math
import random
import unicodedata

import pytest
import torch

from shared.assets import gpt2_vocabulary

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def ours(ch02):
    return ch02.BytePairTokenizer(*gpt2_vocabulary())


def random_texts(n, seed):
    """Texts of 0 to 60 pieces: common characters, any assigned character, and what trips a splitter."""
    rng = random.Random(seed)
    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    awkward = ["  ", "   ", "\n\n", " \n", "\t ", "\r\n", "\u00a0", "\u3000", "'s", "'S", "'ll", "’s", "1234567"]
    awkward += ["\x00", "\x1c", "\x85", "\u200d", "👨‍👩‍👧", "🇫🇷", "é", "e\u0301", "Ġ", "\ufeff", "\ud800", "a" * 12]
    awkward += ["<|endoftext", "|>"]
    common = [*"abcdefghij ABC 0123456789 .,;:!?'\"-_()", " the", " of", "ing"]
    for _ in range(n):
        pools = rng.choices([common, assigned, awkward], weights=[6, 3, 2], k=rng.randrange(61))
        yield "".join(rng.choice(pool) for pool in pools)


# Word-level tokenizers -----------------------------------------------------------------------------------


def test_split_words_keeps_every_visible_character(ch02, sample_story):
    words = ch02.split_words(sample_story)
    assert "".join(words) == "".join(sample_story.split())
    assert all(word == word.strip() and word for word in words)


def test_v1_round_trip_and_errors(ch02):
    vocab = {token: i for i, token in enumerate(sorted({"the", "sea", ",", ".", "(", ")", "--"}))}
    tokenizer = ch02.SimpleTokenizerV1(vocab)
    assert tokenizer.decode(tokenizer.encode("the sea, the sea.")) == "the sea, the sea."
    with pytest.raises(KeyError, match="sky"):
        tokenizer.encode("the sky")
    with pytest.raises(ValueError, match="id 7 .* 7 entries"):
        tokenizer.decode([0, 7])
    with pytest.raises(ValueError, match="id -1"):
        tokenizer.decode([-1])
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""
    assert tokenizer.decode(i for i in [6, 5]) == tokenizer.decode([6, 5])


def test_v2_replaces_unknown_words_and_needs_both_special_tokens(ch02):
    vocab = {"sea": 0, "the": 1, END: 2, "<|unk|>": 3}
    tokenizer = ch02.SimpleTokenizerV2(vocab)
    assert tokenizer.encode(f"the sky {END} the sea") == [1, 3, 2, 1, 0]
    assert tokenizer.encode(f"a{END}b") == [3]  # without spaces around it the sign is part of an unknown word
    with pytest.raises(ValueError, match=r"<\|unk\|>"):
        ch02.SimpleTokenizerV2({"sea": 0, END: 1})


def test_figures_of_the_verdict_word_level(ch02, verdict):
    words = ch02.split_words(verdict)
    vocab = {token: i for i, token in enumerate(sorted(set(words)))}
    assert (len(verdict), len(words), len(vocab)) == (20_479, 4_690, 1_130)
    assert list(vocab)[:8] == ["!", '"', "'", "(", ")", ",", "--", "."]
    v1 = ch02.SimpleTokenizerV1(vocab)
    sentence = "I had always thought Jack Gisburn rather a cheap genius."
    assert v1.encode(sentence) == [53, 514, 149, 1003, 57, 38, 818, 115, 256, 486, 7]
    assert v1.decode(v1.encode(sentence)) == sentence
    with pytest.raises(KeyError, match="Hello"):
        v1.encode("Hello, do you like tea?")
    v2 = ch02.SimpleTokenizerV2({**vocab, END: 1130, "<|unk|>": 1131})
    assert v2.encode(f"Do robots paint? {END} In the studio he painted a picture.") == [
        1131, 1131, 745, 10, 1130, 55, 988, 944, 533, 746, 115, 769, 7]  # fmt: skip
    spoken = v2.encode('"You ought to see it," he said.')
    assert spoken == [1, 113, 1131, 1016, 862, 585, 5, 1, 533, 851, 7]
    assert v2.decode(spoken) == '" You <|unk|> to see it," he said.'


def test_a_shorter_list_of_separators_leaves_signs_glued_to_words(verdict):
    """Why the chapter's pattern names ``: _ ( ) '`` too."""
    import re

    items = [item for item in re.split(r'([,.;?!"]|--|\s)', verdict) if item.strip()]
    assert (len(items), len(set(items))) == (4_458, 1_180)


# Byte pair encoding --------------------------------------------------------------------------------------


def test_merges_agree_with_a_naive_search(ch02):
    """The pair learned in each round is a most frequent one, and joining it shortens the words by its count."""
    rng = random.Random(3)
    words = {tuple(rng.choices("abc", k=rng.randrange(1, 8))): rng.randrange(1, 5) for _ in range(40)}
    merges = ch02.train_bpe(words, 12)
    assert len(merges) == 12 == len(set(merges))
    for pair in merges:
        counts = {}
        for word, n in words.items():
            for i in range(len(word) - 1):
                counts[word[i : i + 2]] = counts.get(word[i : i + 2], 0) + n
        assert counts[pair] == max(counts.values())
        words = {ch02.merge_pair(word, pair): n for word, n in words.items()}
    assert ch02.train_bpe({}, 3) == [] and ch02.train_bpe({("a",): 5}, 3) == []


def test_merge_pair_goes_from_left_to_right(ch02):
    assert ch02.merge_pair(tuple("aaaa"), ("a", "a")) == ("aa", "aa")
    assert ch02.merge_pair(tuple("aaab"), ("a", "a")) == ("aa", "a", "b")
    assert ch02.merge_pair(tuple("baab"), ("a", "b")) == ("b", "a", "ab")
    assert ch02.merge_pair((), ("a", "b")) == ()


def test_byte_tokenizer_equals_tiktoken_on_2000_random_texts(ours, gpt2):
    different = []
    for text in random_texts(2_000, seed=20):
        ids = gpt2.encode(text, disallowed_special=())
        if ours.encode(text, disallowed_special=()) != ids:
            different.append(text)
            continue
        # Half a surrogate pair is no text; both put U+FFFD in its place. Everything else comes back.
        assert ours.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert different == []


def test_byte_tokenizer_equals_tiktoken_on_a_whole_story(ours, gpt2, sample_story):
    assert ours.encode(sample_story) == gpt2.encode(sample_story)
    assert ours.encode(sample_story) == gpt2.encode(sample_story)  # and again, with all its pieces remembered


def test_unknown_special_tokens_are_no_special_tokens(ours):
    assert ours.encode("x", allowed_special={"x"}) == ours.encode("x")


@pytest.mark.parametrize("text", [END, f"a{END}b", f"{END}{END}", f"x {END}\n{END} y", "<|endoftext|", "plain"])
def test_special_tokens_as_in_tiktoken(ours, gpt2, text):
    for options in [{"allowed_special": {END}}, {"allowed_special": "all"}, {"disallowed_special": ()}]:
        assert ours.encode(text, **options) == gpt2.encode(text, **options)
    if END in text:
        with pytest.raises(ValueError, match=r"allowed_special.*disallowed_special"):
            ours.encode(text)
        with pytest.raises(ValueError):
            gpt2.encode(text)
    else:
        assert ours.encode(text) == gpt2.encode(text)


def test_byte_tokenizer_vocabulary_and_unknown_ids(ours):
    assert (ours.n_vocab, max(ours.bytes_of), ours.special) == (50_257, 50_256, {END: 50_256})
    assert len({bytes([b]) for b in range(256)} & set(ours.id_of)) == 256
    for bad in (50_257, -1):
        with pytest.raises(ValueError, match=f"id {bad} .*50256"):
            ours.decode([5, bad])
    assert ours.decode(torch.tensor([40, 367])) == ours.decode(i for i in [40, 367]) == ours.decode([40, 367]) == "I H"
    assert ours.decode([8582]) == "\ufffd" and ours.decode([8582, 97, 245]) == "🤗"


def test_an_invented_word_falls_into_pieces(ours, gpt2):
    for tokenizer in (ours, gpt2):
        ids = tokenizer.encode("Akwirw ier")
        assert ids == [33901, 86, 343, 86, 220, 959]
        assert [tokenizer.decode([i]) for i in ids] == ["Ak", "w", "ir", "w", " ", "ier"]
        assert tokenizer.encode("<| endoftext |>") == [27, 91, 886, 1659, 5239, 930, 29]


def test_figures_of_the_verdict_in_gpt2_tokens(ch02, gpt2, verdict, ours):
    ids = gpt2.encode(verdict)
    assert len(ids) == 5_145 and ours.encode(verdict) == ids
    assert ids[:12] == [40, 367, 2885, 1464, 1807, 3619, 402, 271, 10899, 2138, 257, 7026]
    cut = int(0.9 * len(verdict))
    train, rest = verdict[:cut], verdict[cut:]
    assert (len(train), len(rest)) == (18_431, 2_048)
    assert (len(gpt2.encode(train)), len(gpt2.encode(rest))) == (4_612, 534)
    train_loader = ch02.create_dataloader_v1(train, 2, 256, 256, drop_last=True)
    rest_loader = ch02.create_dataloader_v1(rest, 2, 256, 256, shuffle=False, drop_last=False)
    assert (len(train_loader), len(rest_loader)) == (9, 1)
    assert sum(x.numel() for x, _ in train_loader) == 4_608 and sum(x.numel() for x, _ in rest_loader) == 512


# Windows, data set, loader -------------------------------------------------------------------------------


def test_windows_against_a_plain_loop(ch02):
    for n in range(1, 25):
        for length in range(1, 8):
            for stride in range(1, 8):
                want, start = [], 0
                while start + length < n:  # the token after the row must exist
                    want.append(start)
                    start += stride
                if want:
                    starts = ch02.window_starts(n, length, stride)
                    assert list(starts) == want and len(starts) == math.ceil((n - length) / stride)
                else:
                    with pytest.raises(ValueError, match=f"{n} tokens .*max_length {length}"):
                        ch02.window_starts(n, length, stride)


@pytest.mark.parametrize("length, stride", [(4, 4), (4, 1), (3, 5), (1, 1)])
def test_rows_are_the_text_and_targets_follow_by_one(ch02, gpt2, sample_story, length, stride):
    text = sample_story[:600]
    ids = gpt2.encode(text)
    dataset = ch02.GPTDatasetV1(text, gpt2, length, stride)
    assert len(dataset) == len(dataset.input_ids) == len(dataset.target_ids) == math.ceil((len(ids) - length) / stride)
    for i in range(len(dataset)):
        inputs, targets = dataset[i]
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.tolist() == ids[i * stride : i * stride + length]
        assert targets.tolist() == ids[i * stride + 1 : i * stride + length + 1]


def test_with_stride_equal_to_length_every_token_is_an_input_once(ch02, gpt2, sample_story):
    ids = gpt2.encode(sample_story)
    dataset = ch02.GPTDatasetV1(sample_story, gpt2, 32, 32)
    seen = torch.cat([inputs for inputs, _ in dataset]).tolist()
    assert seen == ids[: len(seen)] and len(ids) - len(seen) <= 32


def test_end_of_text_in_a_text_is_the_special_token(ch02, gpt2):
    dataset = ch02.GPTDatasetV1(f"One.{END}Two.", gpt2, 3, 1)
    assert 50_256 in dataset[0][0].tolist() + dataset[0][1].tolist()


@pytest.mark.parametrize("length, stride", [(0, 1), (-1, 1), (4, 0), (4, -2), (2.5, 1), (2, 1.5)])
def test_settings_below_one_are_refused(ch02, gpt2, length, stride):
    name, wrong = ("max_length", length) if length < 1 or length % 1 else ("stride", stride)
    with pytest.raises(ValueError, match=f"{name} must be a whole number, 1 or more; it is {wrong}"):
        ch02.GPTDatasetV1("one two three four five six", gpt2, length, stride)
    with pytest.raises(ValueError, match="1 or more"):
        ch02.create_dataloader_v1("one two three four five six", max_length=length, stride=stride)


@pytest.mark.parametrize("text", ["", "short", "a b c d"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_text_shorter_than_one_window_is_refused(ch02, text, shuffle):
    with pytest.raises(ValueError, match="too short for max_length 4"):
        ch02.create_dataloader_v1(text, max_length=4, stride=4, shuffle=shuffle)


def test_a_loader_without_a_single_batch_is_refused(ch02, sample_story):
    with pytest.raises(ValueError, match="5 rows do not fill one batch of 6"):
        ch02.create_dataloader_v1("a b c d e f g h i", batch_size=6, max_length=4, stride=1)
    loader = ch02.create_dataloader_v1("a b c d e f g h i", batch_size=6, max_length=4, stride=1, drop_last=False)
    assert [x.shape for x, _ in loader] == [(5, 4)]
    exactly_one = ch02.create_dataloader_v1("a b c d e f g h i", batch_size=5, max_length=4, stride=1, num_workers=1)
    assert len(exactly_one) == 1 and exactly_one.num_workers == 1


def test_shuffling_changes_the_order_and_nothing_else(ch02, sample_story):
    torch.manual_seed(1)
    rows = {}
    for shuffle in (False, True):
        loader = ch02.create_dataloader_v1(sample_story, 4, 8, 8, shuffle=shuffle, drop_last=False)
        rows[shuffle] = [tuple(row.tolist()) for x, _ in loader for row in x]
    assert rows[False] != rows[True] and sorted(rows[False]) == sorted(rows[True])


def test_loader_defaults(ch02, gpt2, sample_story):
    loader = ch02.create_dataloader_v1(sample_story)
    assert (loader.batch_size, loader.drop_last, loader.num_workers) == (4, True, 0)
    assert isinstance(loader.sampler, torch.utils.data.RandomSampler)
    assert len(loader.dataset) == math.ceil((len(gpt2.encode(sample_story)) - 256) / 128)


@pytest.mark.parametrize(
    "length, stride, batch, rows, batches, all_batches",
    [
        (2, 2, 4, 2_572, 643, 643),
        (8, 2, 4, 2_569, 642, 643),
        (4, 1, 1, 5_141, 5_141, 5_141),
        (4, 4, 8, 1_286, 160, 161),
        (256, 128, 4, 39, 9, 10),
        (256, 256, 2, 20, 10, 10),
        (1024, 1024, 2, 5, 2, 3),
    ],
)
def test_loader_sizes_of_the_verdict(ch02, verdict, length, stride, batch, rows, batches, all_batches):
    loader = ch02.create_dataloader_v1(verdict, batch, length, stride, shuffle=False)
    assert (len(loader.dataset), len(loader)) == (rows, batches)
    assert len(ch02.create_dataloader_v1(verdict, batch, length, stride, shuffle=False, drop_last=False)) == all_batches


def test_batches_of_the_verdict(ch02, verdict):
    inputs, targets = next(iter(ch02.create_dataloader_v1(verdict, 4, 2, 2, shuffle=False)))
    assert inputs.tolist() == [[40, 367], [2885, 1464], [1807, 3619], [402, 271]]
    assert targets.tolist() == [[367, 2885], [1464, 1807], [3619, 402], [271, 10899]]
    first, second = list(ch02.create_dataloader_v1(verdict, 4, 8, 2, shuffle=False))[:2]
    assert first[0].tolist() == [
        [40, 367, 2885, 1464, 1807, 3619, 402, 271],
        [2885, 1464, 1807, 3619, 402, 271, 10899, 2138],
        [1807, 3619, 402, 271, 10899, 2138, 257, 7026],
        [402, 271, 10899, 2138, 257, 7026, 15632, 438],
    ]
    assert second[0][0].tolist() == [10899, 2138, 257, 7026, 15632, 438, 2016, 257]


# Embeddings ----------------------------------------------------------------------------------------------


def test_embedding_figures():
    torch.manual_seed(123)
    layer = torch.nn.Embedding(6, 3)
    want = torch.tensor([[1.2753, -0.2010, -0.1606], [-0.4015, 0.9666, -1.1481],
                         [-2.8400, -0.7849, -1.4096], [0.9178, 1.5810, 1.3010]])  # fmt: skip
    torch.testing.assert_close(layer(torch.tensor([2, 3, 5, 1])), want, atol=5e-5, rtol=0)
