# Setup, the same in every notebook: finds the course's folder; on Colab it fetches the course first.
import os
import subprocess
import sys
from pathlib import Path

COURSE_ADDRESS = os.environ.get("COURSE_ADDRESS") or ""  # where git finds the course; needed on Colab only

# The notebook's own file, as VS Code and Jupyter tell it: the kernel may have been started in another folder.
opened = Path(globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "unknown").absolute()
places = [Path.cwd(), *Path.cwd().parents, *opened.parents, Path("/content/course"), Path.cwd() / "course"]
root = next((p for p in places if (p / "shared" / "carry.py").is_file()), None)
if root is None and "google.colab" in sys.modules and COURSE_ADDRESS:
    root = Path.cwd() / "course"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", COURSE_ADDRESS, str(root)], check=True)
if root is None:
    raise FileNotFoundError(
        f"no course folder in {Path.cwd()} or above it. On your computer: open this notebook inside the course. "
        "On Colab: upload the course as course.zip, run `!unzip -q course.zip -d /content/course`, then this cell; "
        "or set os.environ['COURSE_ADDRESS'] to the git address of the course and run this cell again."
    )
if root in opened.parents and root not in [Path.cwd(), *Path.cwd().parents]:
    os.chdir(opened.parent)
sys.path[:0] = [str(root)] if str(root) not in sys.path else []

from shared.notebook_setup import prepare  # noqa: E402

prepare()
