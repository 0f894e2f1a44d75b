"""What the tests share. None of them needs the network; the real texts are used where they are at hand."""

import os
import signal
import threading

import pytest

# Set before any test module imports anything: no test may reach for the network, none may write into the
# cache of the person who runs it, and no result may depend on that person's settings.
os.environ["COURSE_OFFLINE"] = os.environ["TQDM_DISABLE"] = "1"
os.environ["COURSE_PROGRESS"] = "off"
for name in ("COURSE_SCALE", "COURSE_TEXT", "COURSE_VENV", "PYTHONOPTIMIZE"):
    os.environ.pop(name, None)

# A shell lets what it starts in the background ignore Ctrl-C, and so would every program that a test starts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails while a browser is open leaves a picture of it."""
    report = yield
    if report.failed and call.when == "call" and "page" in getattr(item, "fixturenames", ()):
        from shared.tests.lab import keep_screenshots

        try:
            report.sections += [("screenshot", str(file)) for file in keep_screenshots(item.name)]
        except Exception as error:  # the browser is gone, for example: the failure itself is what matters
            report.sections.append(("screenshot", f"could not be made: {error}"))
    return report


# These take minutes each, and a file's tests stay in one worker: whoever begins with them ends earlier.
FIRST = ("test_run_chapters", "test_run_solutions", "test_browser_chapters", "test_browser", "test_train")


def pytest_collection_modifyitems(items):
    """Files with long tests first."""
    def place(item):
        name = item.path.stem
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=place)  # stable: the rest stays in its order


def pytest_configure():
    """A wrong COURSE_DATA would fail nearly every test: it is said once instead."""
    from shared.assets import AssetError, data_folder

    try:
        data_folder()
    except AssetError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session", autouse=True)
def vocabulary(tmp_path_factory):
    """tiktoken finds GPT-2's vocabulary in a folder of this test run."""
    from shared.assets import use_offline_vocabulary

    os.environ["TIKTOKEN_CACHE_DIR"] = str(tmp_path_factory.mktemp("tiktoken"))
    return use_offline_vocabulary()


@pytest.fixture(scope="session")
def ch02():
    """Chapter 2's carried code as a module."""
    from shared.carry import load_chapter

    return load_chapter("ch02_text_data")


@pytest.fixture(scope="session")
def ch05():
    """The code of chapters 2 to 5 as a module."""
    from shared.carry import load_chapter

    return load_chapter("ch05_pretraining")


@pytest.fixture(scope="session")
def gpt2(vocabulary):
    """tiktoken's GPT-2 tokenizer."""
    import tiktoken

    return tiktoken.get_encoding("gpt2")


@pytest.fixture(scope="session")
def sample_story():
    """The story that ships with the course."""
    from shared.assets import SAMPLES, read_text

    return read_text(SAMPLES / "short-story.txt")


@pytest.fixture(scope="session")
def verdict():
    """The text of The Verdict; skips the test where neither COURSE_DATA nor the cache holds it."""
    from shared.assets import find

    found = find("the-verdict.txt")
    if found is None:
        pytest.skip("the-verdict.txt is neither in COURSE_DATA nor in the cache")
    return found.read_text()


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2's file, opened; skips the test where it has not been fetched before."""
    from shared.assets import fetch_smollm2
    from shared.gguf_files import GgufFile

    found = fetch_smollm2()
    if found is None:
        pytest.skip("SmolLM2 has not been fetched on this machine")
    return GgufFile(found.path)
