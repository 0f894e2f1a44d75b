"""Goes on with a text, outside the notebooks: chapter 5's decoding, with GPT-2's weights or with your own.

    python3 ch05_pretraining/generate.py
    python3 ch05_pretraining/generate.py "The old house" --model 13M --temperature 0.8 --top-k 40 --seed 1
    python3 ch05_pretraining/generate.py "I had" --model ch05_pretraining/checkpoints/my-gpt2

A model is a size of GPT-2, downloaded when it is first asked for, or a folder in the format of transformers, such as
export_gpt2 and train.py write.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

import torch  # noqa: E402

from shared import gpt2_files, guards  # noqa: E402
from shared.assets import AssetError, use_offline_vocabulary  # noqa: E402
from shared.carry import load_chapter  # noqa: E402
from shared.course import print_any_character  # noqa: E402

END_OF_TEXT = 50_256


def command_line(arguments=None):
    """The parsed arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="generate.py", description=__doc__, formatter_class=raw)
    parser.add_argument("prompt", nargs="?", default="Every effort moves you", help="the beginning of the text")
    parser.add_argument("--model", default="124M", help="124M, 355M, 774M, 1558M, 13M, or a folder (default 124M)")
    parser.add_argument("--max-new-tokens", type=int, default=50, help="how many tokens to add at most (default 50)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int, help="draw among the k likeliest only")
    parser.add_argument("--top-p", type=float, help="draw among the likeliest with this probability together only")
    parser.add_argument("--seed", type=int, help="for the same text each time")
    return parser.parse_args(arguments)


def main(arguments=None):
    print_any_character()
    asked = command_line(arguments)
    use_offline_vocabulary()
    import tiktoken

    tokenizer = tiktoken.get_encoding("gpt2")
    ch05 = load_chapter("ch05_pretraining")
    try:
        guards.sampling(asked.temperature, asked.top_k, asked.top_p)        # before a download
        settings, params = (ch05.read_gpt2(asked.model) if gpt2_files.is_folder(asked.model)
                            else ch05.download_and_load_gpt2(asked.model, "gpt2"))  # fmt: skip
        model, device = ch05.GPTModel(ch05.config_of(settings)), ch05.get_device()
        ch05.load_weights_into_gpt(model, params)
        if asked.seed is not None:
            torch.manual_seed(asked.seed)
        prompt = ch05.text_to_token_ids(asked.prompt or "<|endoftext|>", tokenizer).to(device)
        ids = ch05.generate(model.to(device), prompt, asked.max_new_tokens, settings["n_ctx"], asked.temperature,
                            asked.top_k, END_OF_TEXT, asked.top_p)  # fmt: skip
    except (AssetError, ValueError, OSError) as error:
        raise SystemExit(f"generate.py: {error}") from error
    print(ch05.token_ids_to_text(ids, tokenizer))


if __name__ == "__main__":
    main()
