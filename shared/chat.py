"""Talk with a model in the terminal: ``python3 -m shared chat [MODEL]``.

MODEL is smollm2, a size of GPT-2 (124M, 355M, 774M, 1558M, or 13M, the course's own), a GGUF file, a folder that
export_gpt2 or export_gguf wrote, or the folder of a run of train.py. SmolLM2 holds a conversation; a model that has
only been pretrained goes on with the text that you begin.
"""

import argparse
from pathlib import Path

HELP = """/help          this list
/new           forget what was said
/temperature T choose more boldly or more carefully; 0 takes the likeliest token
/top-p P       draw among the likeliest tokens that have the share P together
/quit          end (Ctrl-D does it, too)
Ctrl-C stops an answer."""
END_OF_TEXT = "<|endoftext|>"
# What SmolLM2's own template puts before a conversation that has no such message.
SYSTEM = ("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")


def command_line(arguments):
    """The parsed arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python3 -m shared chat", description=__doc__, formatter_class=raw)
    parser.add_argument("model", nargs="?", default="smollm2", help="see above (default smollm2)")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest token (default 0.7)")
    parser.add_argument("--top-p", type=float, default=0.9, help="draw among these likeliest tokens (default 0.9)")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="the longest answer, in tokens (default 200)")
    parser.add_argument("--seed", type=int, help="for the same answers each time")
    return parser.parse_args(arguments)


def load(ch05, name):
    """(model in eval mode, tokenizer) of what ``name`` stands for; ValueError or OSError if it cannot be had."""
    from shared import assets, gpt2_files
    from shared.checkpoints import load_checkpoint, restore_checkpoint

    path = Path(name).expanduser()
    if name == "smollm2":
        found = assets.fetch_smollm2(without="there is nobody to talk with")
        if found is None:
            raise ValueError("SmolLM2 is not here; name another model, for example 13M")
        return ch05.load_gguf(found.path)
    if path.suffix == ".gguf" or (path / "model.gguf").is_file():
        return ch05.load_gguf(path if path.suffix == ".gguf" else path / "model.gguf")
    tokenizer = ch05.BytePairTokenizer(*assets.gpt2_vocabulary())
    if (path / "checkpoint.pth").is_file():
        checkpoint = load_checkpoint(path / "checkpoint.pth")
        model = ch05.GPTModel(checkpoint["config"])
        restore_checkpoint(checkpoint, model)
        return model.eval(), tokenizer
    found = ch05.read_gpt2(path) if gpt2_files.is_folder(name) else ch05.download_and_load_gpt2(name, "gpt2")
    model = ch05.GPTModel(ch05.config_of(found[0]))
    ch05.load_weights_into_gpt(model, found[1])
    return model.eval(), tokenizer


class Talk:
    """A conversation with a model, or with one that knows no conversations, a text that both write."""

    def __init__(self, ch05, model, tokenizer):
        self.ch05, self.model, self.tokenizer = ch05, model, tokenizer
        self.speaks = {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.special)
        if not self.speaks and END_OF_TEXT not in tokenizer.special:
            raise ValueError(f"the model's vocabulary has no token that ends a text, such as {END_OF_TEXT}")
        self.end = tokenizer.special["<|im_end|>" if self.speaks else END_OF_TEXT]
        self.forget()

    def forget(self):
        """Begin anew."""
        self.messages, self.ids = [SYSTEM], []

    def prompt(self, words, max_new_tokens):
        """Ids of all that was said, and of the new words; the oldest turns are forgotten if there is no room."""
        if self.speaks:
            self.messages += [("user", words)]
            ids = self.ch05.chat_ids(self.messages, self.tokenizer)
            while len(ids) + max_new_tokens > self.model.context_length and len(self.messages) > 2:
                del self.messages[1:3]
                ids = self.ch05.chat_ids(self.messages, self.tokenizer)
            return ids
        self.ids += self.tokenizer.encode(words, disallowed_special=())
        return self.ids or [self.end]

    def tokens(self, ids, max_new_tokens, temperature, top_p):
        """Yield new ids, one after another, up to the end token; past the context all is read anew."""
        import torch

        from shared.fast_linear import packed_weights

        context, device = self.model.context_length, self.model.tok_emb.weight.device
        ids = torch.tensor([ids], device=device)
        cache = self.ch05.KeyValueCache(self.model, 1, min(context, ids.shape[1] + max_new_tokens))
        with packed_weights(self.model, max_new_tokens):
            for _ in range(max_new_tokens):
                with self.ch05.eval_mode(self.model):    # not across the yield: whoever reads may train meanwhile
                    logits = self.ch05.last_logits(self.model, ids, context, cache)
                newest = self.ch05.choose_next(logits, temperature, None, top_p)
                if newest.item() == self.end:
                    return
                ids = torch.cat([ids, newest], dim=1)
                yield newest.item()

    def answer(self, words, max_new_tokens, temperature, top_p):
        """Yield the answer piece by piece, as text; what was said up to a stop is remembered."""
        new, shown = [], ""
        try:
            for token in self.tokens(self.prompt(words, max_new_tokens), max_new_tokens, temperature, top_p):
                new.append(token)
                text = self.tokenizer.decode(new)
                if not text.endswith("\ufffd"):     # a character whose last bytes are still to come
                    yield text[len(shown):]
                    shown = text
            yield self.tokenizer.decode(new)[len(shown):]
        finally:
            if self.speaks:
                self.messages += [("assistant", self.tokenizer.decode(new))]
            else:
                self.ids = self.ids + new


def setting(asked, name, value):
    """Change a setting as a line ``/temperature 0.5`` asks; returns what to print."""
    from shared import guards

    try:
        number = float(value)
        guards.sampling(**{"temperature": asked.temperature, "top_p": asked.top_p, name: number})
    except ValueError as error:
        return f"{error}" if value else f"/{name.replace('_', '-')} needs a number"
    setattr(asked, name, number)
    return f"{name.replace('_', '-')} is {number:g}"


def say(pieces):
    """Print pieces of text as they come; Ctrl-C stops them."""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print(" ... stopped")
    finally:
        pieces.close()


def main(arguments):
    """Read lines and answer them until the input ends; returns the exit status."""
    asked = command_line(arguments)
    import torch

    from shared import guards
    from shared.assets import AssetError
    from shared.carry import load_chapter

    ch05 = load_chapter("ch05_pretraining")
    try:
        guards.sampling(asked.temperature, None, asked.top_p)
        guards.whole_numbers(max_new_tokens=asked.max_new_tokens)
        talk = Talk(ch05, *load(ch05, asked.model))
    except (AssetError, ValueError, OSError) as error:
        print(f"chat: {error}")
        return 1
    if asked.seed is not None:
        torch.manual_seed(asked.seed)
    talk.model.to(ch05.get_device())
    print(f"{asked.model}: {'ask' if talk.speaks else 'begin a text'}; /help lists what else you can type")
    while True:
        try:
            words = input("> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print("\n/quit or Ctrl-D ends")
            continue
        command, _, value = words.strip().partition(" ")
        if command == "/quit":
            return 0
        if command == "/new":
            talk.forget()
            print("forgotten")
        elif command in ("/temperature", "/top-p"):
            print(setting(asked, command[1:].replace("-", "_"), value.strip()))
        elif command.startswith("/"):
            print(HELP if command == "/help" else f"there is no {command}\n{HELP}")
        elif words.strip():
            say(talk.answer(words, asked.max_new_tokens, asked.temperature, asked.top_p))
