"""ch05_pretraining/generate.py, as a user starts it."""

import importlib.util
import os
import subprocess
import sys

import pytest

from shared.course import ROOT

SCRIPT = ROOT / "ch05_pretraining" / "generate.py"


def run(*arguments, **environment):
    """(exit status, standard output, standard error) of the script."""
    done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8",
                          env={**os.environ, "COURSE_OFFLINE": "1", **environment})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def main():
    specification = importlib.util.spec_from_file_location("generate_script", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main


def test_with_no_arguments_it_goes_on_with_the_known_prompt():
    status, text, errors = run()
    assert status == 0, errors
    assert "small model" in text                                # the line that says that it stands in
    written = text[text.index("Every effort moves you") :].strip()
    assert len(written.split()) > 20


def test_the_same_seed_gives_the_same_text_as_the_notebooks_function(main, ch05, gpt2, capsys):
    import torch

    options = ["The old house", "--model", "13M", "--max-new-tokens", "12", "--top-k", "40", "--top-p", "0.9"]
    texts = []
    for seed in ("1", "1", "2"):
        main([*options, "--seed", seed])
        texts.append(capsys.readouterr().out.removesuffix("\n"))
    assert texts[0] == texts[1] != texts[2]

    settings, params = ch05.download_and_load_gpt2("13M", "gpt2")
    model = ch05.GPTModel(ch05.config_of(settings))
    ch05.load_weights_into_gpt(model, params)
    torch.manual_seed(1)
    ids = ch05.generate(model, ch05.text_to_token_ids("The old house", gpt2), 12, 256, 0.8, 40, 50_256, 0.9)
    assert texts[0] == gpt2.decode(ids[0].tolist())


def test_it_reads_a_folder_of_your_own(main, ch05, capsys, tmp_path):
    import torch

    torch.manual_seed(0)
    cfg = {**ch05.GPT_CONFIG_124M, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "context_length": 16}
    ch05.export_gpt2(ch05.GPTModel(cfg), cfg, tmp_path)
    main(["I had", "--model", str(tmp_path), "--max-new-tokens", "0"])
    assert capsys.readouterr().out == "I had\n"
    main(["", "--model", str(tmp_path), "--max-new-tokens", "3", "--temperature", "0"])
    assert capsys.readouterr().out.startswith("<|endoftext|>")


@pytest.mark.parametrize("arguments, message", [
    (["--temperature", "-1"], "temperature must be 0 \\(greedy\\) or above, and below 1e\\+18; it is -1.0"),
    (["--top-k", "0"], "top_k must be a whole number, 1 or more; it is 0"),
    (["--model", "125M"], "125M"),
    (["--model", "13M", "--max-new-tokens", "-2"], "max_new_tokens must be a whole number, 0 or more; it is -2"),
])  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(main, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_a_folder_that_is_missing_is_said_to_be_missing(main, tmp_path):
    with pytest.raises(SystemExit, match="there is no folder .*my-gpt2, and no size of GPT-2 of that name; the sizes"):
        main(["--model", str(tmp_path / "my-gpt2")])


def test_a_folder_that_holds_no_model_is_named(main, tmp_path):
    with pytest.raises(SystemExit, match=f"{tmp_path.name} has no config.json, so it is no model"):
        main(["--model", str(tmp_path)])
