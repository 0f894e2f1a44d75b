"""The course's data files: which there are, and how to find, download and verify them.

A notebook needs one line per file:

    story = assets.fetch("the-verdict.txt")
    text = story.read_text()

``fetch`` looks in this order, and stops at the first place that has the right file:

1. the folder named in ``COURSE_DATA`` (files that you put there yourself),
2. the cache: ``COURSE_CACHE``, or the usual place for caches in your home folder,
3. the file's addresses on the network (not if ``COURSE_OFFLINE=1``),
4. the sample in ``shared/samples/``, a small stand-in written for this course.

Every file of known checksum is verified each time it is found. What is merely not there leads to the
next place; what is there but wrong is an error that says so, because a number computed from the wrong
data is worse than no number.

What does not come from an address of its own has a file of its own here: GPT-2's vocabulary and weights, SmolLM2.

Importing this package imports the standard library only.
"""

from shared.assets.gpt2 import GPT2_REPOSITORIES, SMALL_MODEL, fetch_gpt2
from shared.assets.places import SAMPLES, cache_folder, data_folder
from shared.assets.search import Found, fetch, fetch_text, find, read_text
from shared.assets.smollm2 import fetch_smollm2
from shared.assets.table import ASSETS, AssetError
from shared.assets.vocabulary import gpt2_vocabulary, use_offline_vocabulary

__all__ = [
    "ASSETS",
    "GPT2_REPOSITORIES",
    "SAMPLES",
    "SMALL_MODEL",
    "AssetError",
    "Found",
    "cache_folder",
    "data_folder",
    "fetch",
    "fetch_gpt2",
    "fetch_smollm2",
    "fetch_text",
    "find",
    "gpt2_vocabulary",
    "read_text",
    "use_offline_vocabulary",
]
