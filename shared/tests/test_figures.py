"""The table of known figures: what is compared, what is not, and how a table is written anew."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from shared import figures
from shared.assets import SAMPLES, Found
from shared.course import ROOT
from shared.figures import record

REAL = Found("SMSSpamCollection", SAMPLES / "x", "cache")
SAMPLE = Found("SMSSpamCollection", SAMPLES / "x", "sample")


@pytest.fixture(autouse=True)
def own_table(monkeypatch, tmp_path):
    """A table for chapter 99 in a folder of its own, and no memory of what other tests said."""
    table = {
        "99.1 counts": {"real, full": [1, 2], "real, small": [1, 1], "sample, full": [3, 4]},
        "99.2 loss": {"real, 13M, full": 0.25},
        "99.3 texts": {"full": {"ham": 3, "spam": "x"}},
    }
    (tmp_path / "ch99.json").write_text(record.as_text(table), encoding="utf-8")
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    monkeypatch.setattr(figures, "_about", {})
    monkeypatch.setattr(figures, "_tables", {})
    monkeypatch.delenv("COURSE_SCALE", raising=False)
    monkeypatch.delenv(figures.RECORD, raising=False)
    return table


def test_what_fits_is_silent(capsys):
    figures.about(data=REAL)
    figures.match("99.1 counts", [1, 2])
    figures.match("99.1 counts", (1, 2))
    figures.match("99.1 counts", torch.tensor([1, 2]))
    figures.match("99.1 counts", np.array([1, 2]))
    figures.about(data=SAMPLE)
    figures.match("99.1 counts", [3, 4])
    assert capsys.readouterr().out == ""


def test_a_mismatch_names_both_values_and_causes():
    figures.about(data=REAL)
    with pytest.raises(figures.FigureDiffers) as raised:
        figures.match("99.1 counts", [1, 3])
    message = str(raised.value)
    for part in ("99.1 counts", "[1, 3]", "[1, 2]", "real, full", "another data file", "version"):
        assert part in message
    assert raised.value._render_traceback_() == [f"FigureDiffers: {message}"]
    assert isinstance(raised.value, AssertionError)


@pytest.mark.parametrize("wrong", [[1], [1, 2, 3], {"0": 1}, [2, 1], [1.0, 2.5], ["1", "2"], [True, 2], None])
def test_each_kind_of_difference_is_found(wrong):
    figures.about(data=REAL)
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.1 counts", wrong)


def test_the_scale_decides(monkeypatch):
    figures.about(data=REAL)
    monkeypatch.setenv("COURSE_SCALE", "small")
    figures.match("99.1 counts", [1, 1])
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.1 counts", [1, 2])


def test_where_nothing_is_known_nothing_is_compared(monkeypatch):
    figures.match("99.1 counts", "anything")                    # nobody has said where the data came from
    figures.about(data="own")
    figures.match("99.1 counts", "anything")
    figures.about(data=SAMPLE)
    monkeypatch.setenv("COURSE_SCALE", "small")
    figures.match("99.1 counts", "anything")                    # no figure at this scale
    figures.match("99.9 never heard of", 1)
    figures.match("98.1 no table", 1)


def test_figures_of_own_data_are_not_recorded(monkeypatch, tmp_path):
    """They would stand in the table as those of every reader's data."""
    monkeypatch.setenv(figures.RECORD, str(tmp_path / "found"))
    figures.about(data="own")
    figures.match("99.1 counts", [5, 6])
    assert not (tmp_path / "found").exists()


def test_another_model_has_other_figures():
    figures.about(data=REAL, model="124M")
    figures.match("99.2 loss", 77.0)
    figures.about(model="13M")
    figures.match("99.2 loss", 0.25001)
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.2 loss", 0.26)
    figures.match("99.2 loss", 0.26, within=0.02)
    with pytest.raises(figures.FigureDiffers, match="to within 0.02"):
        figures.match("99.2 loss", 0.28, within=0.02)


def test_tables_and_texts():
    figures.match("99.3 texts", pd.Series({"ham": 3, "spam": "x"}))
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.3 texts", {"ham": 3, "spam": "y"})
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.3 texts", {"ham": 3})
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.3 texts", {"ham": float("nan"), "spam": "x"})


@pytest.mark.parametrize("name", ["split", "6", "6.x", "six.2 split", "", ".2", "EE.1"])
def test_a_name_without_a_section_is_refused(name):
    with pytest.raises(ValueError, match="begins with the number of its section"):
        figures.match(name, 1)


def test_chapters_by_name():
    assert [figures.chapter_of(name) for name in ("6.2 split", "10.1 a", "E.3 b")] == ["ch06", "ch10", "appendix_e"]


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "ch99.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ch99\.json is no table of figures.*git checkout"):
        figures.match("99.1 counts", 1)


def test_recording_writes_instead_of_comparing(monkeypatch, tmp_path):
    monkeypatch.setenv(figures.RECORD, str(tmp_path / "record"))
    figures.about(data=REAL)
    figures.match("99.1 counts", torch.tensor([7, 8]))
    figures.match("99.2 new", float("inf"))
    lines = (tmp_path / "record").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        ["99.1 counts", "real, full", [7, 8]], ["99.2 new", "real, full", "inf"]]  # fmt: skip


def test_changes_are_told_and_other_circumstances_stay(own_table):
    found = [("99.1 counts", "real, full", [1, 5]), ("99.4 new", "real, full", 1)]
    lines = record.changes(own_table, found)
    assert "99.1 counts (real, full): [1, 2] becomes [1, 5]" in lines and "99.4 new (real, full): new, 1" in lines
    assert len(lines) == 2
    new = record.updated(own_table, found)
    assert new["99.1 counts"] == {"real, full": [1, 5], "real, small": [1, 1], "sample, full": [3, 4]}
    assert new["99.2 loss"] == own_table["99.2 loss"] and new["99.4 new"] == {"real, full": 1}
    assert record.changes(new, found) == []


def test_what_no_run_computes_any_more_goes(own_table):
    found = [("99.2 loss", "real, 13M, full", 0.25), ("99.1 other", "real, full", 1)]
    assert "99.1 counts (real, full): in the table, but not in this run" in record.changes(own_table, found)
    assert "real, full" not in record.updated(own_table, found)["99.1 counts"]
    assert record.updated(own_table, found, complete=False)["99.1 counts"] == own_table["99.1 counts"]


def test_two_values_in_one_run_are_told():
    found = [("99.5 twice", "full", 1), ("99.5 twice", "full", 2)]
    assert any("two values in one run" in line for line in record.changes({}, found))


def test_the_text_of_a_table_is_json_and_a_line_for_each_value(own_table):
    text = record.as_text(own_table)
    assert json.loads(text) == own_table
    assert '  "real, small": [1, 1],\n' in text


def test_the_command_writes_a_table_from_a_run(monkeypatch, tmp_path, capsys):
    """A notebook of one cell, run for real: it shows the change, writes it, and then finds none."""
    source = json.loads((ROOT / "ch02_text_data" / "solutions.ipynb").read_text(encoding="utf-8"))
    source["cells"] = source["cells"][:2]
    cell = {"cell_type": "code", "id": "figure", "metadata": {}, "execution_count": None, "outputs": []}
    source["cells"].append({**cell, "source": "from shared import figures\nfigures.match('99.3 texts', {'ham': 4})"})
    folder = ROOT / "shared" / "tests" / "__pycache__"
    folder.mkdir(exist_ok=True)
    path = folder / f"{tmp_path.name}-figures.ipynb"
    path.write_text(json.dumps(source), encoding="utf-8")
    try:
        assert record.main([str(path)]) == 1
        assert "99.3 texts (full):" in capsys.readouterr().out
        assert record.main(["--write", str(path)]) == 0
        monkeypatch.setattr(figures, "_tables", {})
        assert figures.table("ch99")["99.3 texts"] == {"full": {"ham": 4}}
        assert record.main([str(path)]) == 0
        assert "every figure is as the table has it" in capsys.readouterr().out
    finally:
        path.unlink()
    assert record.main(["--nonsense"]) == 2


# The table of the course --------------------------------------------------------------------------------


def committed(chapter):
    path = ROOT / "shared" / "figures" / f"{chapter}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_tables_are_in_the_form_in_which_they_are_written():
    folder = ROOT / "shared" / "figures"
    for path in folder.glob("*.json"):
        table = json.loads(path.read_text(encoding="utf-8"))
        assert path.read_text(encoding="utf-8") == record.as_text(table)
        assert all(figures.chapter_of(name) == path.stem for name in table)


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_chapter_6_that_others_have_found_too(scale):
    """Known from outside the course, on the real data; the table, which a run has written, must have the same."""
    table = committed("ch06")
    real = {name: known[f"real, {scale}"] for name, known in table.items() if f"real, {scale}" in known}
    assert real["6.2 rows"] == [5574, {"ham": 4827, "spam": 747}, 2]
    assert real["6.2 balanced"] == [1494, {"ham": 747, "spam": 747}]
    assert real["6.2 split"] == {"training": [1045, 528, 517], "validation": [149, 70, 79], "test": [300, 149, 151]}
    assert real["6.3 longest"] == [120, 71, 132]
    assert real["6.3 batches"] == [[8, 120], 130, 19, 38]
    assert table["6.5 parameters"][f"real, 13M, {scale}"][0] == [124_441_346, 7_090_946]


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_appendix_e_that_others_have_found_too(scale):
    rows = committed("appendix_e")["E.2 counts"][f"real, 13M, {scale}"]
    assert rows["classifier"] == [124_441_346, 2_666_528, 73]
    assert rows["gpt2-small (124M), vocabulary head"] == [163_037_184, 3_470_608, 73]
    assert rows["gpt2-medium (355M), vocabulary head"] == [406_286_336, 7_898_384, 145]
    assert rows["gpt2-large (774M), vocabulary head"][1] == 14_095_632
    assert rows["gpt2-xl (1558M), vocabulary head"][1] == 22_948_112


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_chapter_2_that_others_have_found_too(scale):
    real = {name: known[f"real, {scale}"] for name, known in committed("ch02").items()}
    assert (real["2.2 characters"], real["2.2 words"], real["2.5 tokens"]) == (20_479, 4_690, 5_145)
    assert real["2.3 vocabulary"] == [1_130, ["!", '"', "'", "(", ")", ",", "--", "."]]
    assert real["2.3 ids"] == [53, 514, 149, 1003, 57, 38, 818, 115, 256, 486, 7]
    assert real["2.6 rows"] == [[5141, 5141], [1286, 160], [39, 9], [20, 10], [5, 2]]
    rows = [[1.2753, -.2010, -.1606], [-.4015, .9666, -1.1481], [-2.8400, -.7849, -1.4096], [.9178, 1.5810, 1.3010]]
    assert np.allclose(real["2.7 embedding"], rows, atol=5e-5)


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_chapter_3_that_others_have_found_too(scale):
    known = {name: values[scale] for name, values in committed("ch03").items() if scale in values}
    expected = {
        "3.3 scores": [0.49, 1.21, 0.53, 0.80, 0.74, 0.94],
        "3.3 shares": [0.1040, 0.2569, 0.1125, 0.1699, 0.1571, 0.1996],
        "3.3 weights": [0.1203, 0.2472, 0.1252, 0.1641, 0.1545, 0.1887],
        "3.3 context": [0.4547, 0.4088, 0.5476],
    }
    for name, values in expected.items():
        assert np.allclose(known[name], values, atol=1e-4), name
    first = [[.2357, .6825], [.2370, .6890], [.2356, .6826], [.2359, .6845], [.2352, .6797], [.2367, .6871]]
    assert np.allclose(known["3.4 first version"], first, atol=1e-4)
    second = [[-.4722, -.0681], [-.4761, -.0592], [-.4726, -.0675], [-.4742, -.0637], [-.4747, -.0611],
              [-.4745, -.0629]]
    assert np.allclose(known["3.4 second version"], second, atol=1e-4)
    assert np.allclose(known["3.5 weights"][1], [0.1720, 0.3361, 0.5041, 0.6702, 0.8324, 1.0], atol=1e-4)
    assert np.array(known["3.5 dropped"]).sum() == 42
    all_heads = [[.2021, .4531], [.2692, .4423], [.2433, .4209], [.2470, .4023], [.2547, .4312], [.2584, .4370]]
    assert np.allclose(known["3.6 all heads at once"][0], all_heads, atol=1e-4)


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_chapter_4_that_others_have_found_too(scale):
    known = {name: values[scale] for name, values in committed("ch04").items()}
    assert known["4.1 skeleton"][2] == 77_981_184
    first = [-1.2034, 0.3201, -0.7130, -1.5548, -0.2390, -0.4667]
    assert np.allclose(known["4.1 skeleton"][1][0][0], first, atol=1e-4)
    assert np.allclose(known["4.6 logits"][0][0], [0.3613, 0.4222, -0.0711, 0.3483, 0.4661, -0.2838], atol=1e-4)
    assert np.allclose(known["4.2 layer"][1], [[0.1324], [0.2170]], atol=1e-4)
    assert np.allclose(known["4.2 layer"][2], [[0.0192], [0.0332]], atol=1e-4)
    assert np.allclose(known["4.3 GELU"][0], [-.0036, -.0454, -.1588, 0, .8412, 1.9546, 2.9964], atol=1e-4)
    assert np.allclose(known["4.4 gradients"][0], [0.000202, 0.000120, 0.000715, 0.001399, 0.005050], atol=1e-6)
    assert known["4.5 sizes"] == {"att": 2_360_064, "ff": 4_722_432, "norm1": 1536, "norm2": 1536, "drop_shortcut": 0}
    assert known["4.6 counts"] == [163_009_536, 38_597_376, 161]
    assert known["4.6 first words"] == [[15496, 11, 314, 716, 27018, 24086, 47843, 30961, 42348, 7267]]
    assert [mib for _, _, mib in known["4.6 sizes"][0].values()] == [621.83, 1549.58, 3197.56, 6247.68]
    assert known["4.6 sizes with biases"]["XL"] == [1_638_022_400, 1_557_611_200]
    assert abs(known["4.7 loss"][0] - 10.7940) < 1e-4
    assert known["4.7 loss"][1] == [[16657, 339, 42826], [49906, 29669, 41751]]


def test_figures_of_chapter_5_that_others_have_found_too():
    known = committed("ch05")
    full, real = ({name: values[where] for name, values in known.items() if where in values}
                  for where in ("full", "real, full"))  # fmt: skip
    assert full["5.1 parameters"] == 162_419_712
    assert np.allclose(full["5.1 loss"][0], [[7.4541e-05, 3.1061e-05, 1.1563e-05],
                                             [1.0337e-05, 5.6776e-05, 4.7559e-06]], rtol=1e-3)  # fmt: skip
    assert abs(full["5.1 loss"][2] - 10.7940) < 1e-4
    assert full["5.1 likeliest"] == [[16657, 339, 42826], [49906, 29669, 41751]]
    assert real["5.1 loaders"] == [18_431, 2_048, 9, 1] and real["5.1 tokens"] == [4_612, 534, 5_145, [4_608, 512]]
    assert np.allclose(real["5.1 before training"], [10.98758347829183, 10.98110580444336], atol=1e-3)
    train, val = real["5.2 log"]
    assert np.allclose(train, [9.781, 8.111, 6.661, 5.961, 5.726, 5.201, 4.417, 4.069, 3.732, 2.850, 2.427, 2.104,
                               1.882, 1.320, 0.985, 0.717, 0.541, 0.391], atol=2e-3)  # fmt: skip
    assert np.allclose(val, [9.933, 8.339, 7.048, 6.616, 6.600, 6.348, 6.278, 6.226, 6.160, 6.179, 6.141, 6.134,
                             6.233, 6.238, 6.242, 6.293, 6.393, 6.452], atol=2e-3)  # fmt: skip
    assert real["5.2 tokens seen"] == [512 * (step + 1) for step in range(0, 90, 5)]
    for where in ("real, full", "real, small"):
        assert known["5.3 draws"][where] == [73, 0, 0, 582, 2, 0, 0, 343, 0]
        assert known["5.3 draws at three temperatures"][where][1:] == [
            [0, 0, 0, 985, 0, 0, 0, 15, 0], [165, 75, 42, 239, 71, 46, 32, 227, 103]]  # fmt: skip
        assert known["5.3 pizza at once"][where] == 41
        assert np.allclose(known["5.3 top-k"][where], [0.0615, 0, 0, 0.5775, 0, 0, 0, 0.3610, 0], atol=5e-5)
    sizes = [[163_037_184, 124_439_808], [406_286_336, 354_823_168], [838_359_040, 774_030_080],
             [1_638_022_400, 1_557_611_200]]  # fmt: skip
    assert real["5.5 sizes"] == sizes


@pytest.mark.parametrize("scale", ["full", "small"])
def test_figures_of_appendix_d_that_others_have_found_too(scale):
    known = {name: values[f"real, {scale}"] for name, values in committed("appendix_d").items()
             if f"real, {scale}" in values}  # fmt: skip
    rates = [0.0001, 0.000595, 0.00505, 0.009505, 0.01, 0.0099981363, 0.0050732251, 0.0049367749, 1.18637e-05]
    assert np.allclose(known["D.2 example"], rates, rtol=1e-5)
    assert np.isclose(known["D.1 warmup"][1], 5.005e-05)
    assert np.allclose(known["D.3 clipping"][0], [[0.2, 0.4], [0.4, 0.8]], atol=1e-5)
    assert known["D.6 sizes"] == [124_318_464, 121_344]
    if scale == "full":
        assert abs(known["D.3 norm"] - 2.1943) < 1e-3
        assert np.allclose(known["D.3 largest signed gradient"], [0.0423, 0.0193], atol=1e-4)


def test_a_text_of_ones_own_and_a_gpu_have_no_figures():
    figures.about(data=Found("mine.txt", SAMPLES / "x", "own"))
    figures.match("99.1 counts", [7, 7])
    figures.about(data=REAL, device=torch.device("cuda"))
    assert figures.circumstance() == "real, cuda, full"
    figures.match("99.1 counts", [7, 7])
    figures.about(device="cpu")
    with pytest.raises(figures.FigureDiffers):
        figures.match("99.1 counts", [7, 7])
