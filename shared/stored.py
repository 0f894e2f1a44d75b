"""Cells that need something that is not everywhere show, where it is missing, what they printed where it was there.

    show_stored_without(smol, "# needs SmolLM2")

From then on a cell that begins with this comment runs only if ``smol`` is not None. Else the outputs that the
notebook's file has for it are shown again, so that a run of all cells neither fails nor wipes them out.
"""

from pathlib import Path

from shared.course import ROOT, FileProblem, chapters, read_notebook
from shared.notebooks import text_of

_rules = {}  # marker -> what it stands for is there
_remembered = {}  # source of a marked cell -> its outputs when the first cell ran


def show_stored_without(found, marker):
    """Let cells that begin with ``marker`` show their stored outputs if ``found`` is None.

    Args:
        found: what the cells need, or None.
        marker: a comment, the whole first line of such a cell.
    """
    from IPython import get_ipython

    _rules[marker] = found is not None
    shell = get_ipython()
    if shell is not None and _instead not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(_instead)


def _instead(lines):
    """The cell's lines; or, of a cell that cannot run, a line that shows what is stored."""
    if not lines or _rules.get(lines[0].strip(), True):
        return lines
    return [f"__import__('shared.stored').stored.show({''.join(lines)!r})\n"]


def show(source):
    """Show the stored outputs of the code cell with this source, from the working folder or the course's notebooks."""
    from IPython.display import publish_display_data

    remember(Path.cwd())  # where the first cell was not this course's
    outputs = _remembered.get(source.strip())
    for chapter in chapters() if outputs is None else ():  # on Colab the notebook lies elsewhere, and the course has it
        remember(ROOT / chapter)
    outputs = _remembered.get(source.strip())
    if outputs is None:
        print("This cell was not run: what it needs is not here, and no output of it is stored.")
    for output in outputs or ():
        if output["output_type"] == "stream":
            print(text_of(output["text"]), end="")
        elif output["output_type"] in ("display_data", "execute_result"):
            publish_display_data({kind: text_of(data) for kind, data in output["data"].items()}, output["metadata"])


def remember(folder):
    """Keep the outputs of marked cells of the notebooks in a folder.

    For the first cell: JupyterLab empties all cells when it begins to run them, and may save that before their turn.
    """
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = read_notebook(path)["cells"]
        except FileProblem:
            continue
        for cell in cells:
            source = text_of(cell["source"]).strip()
            if cell["cell_type"] == "code" and source.startswith("# needs ") and cell["outputs"]:
                _remembered.setdefault(source, cell["outputs"])
