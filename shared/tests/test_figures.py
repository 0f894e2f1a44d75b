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
