"""Cells that need something that is not everywhere show, where it is missing, what they printed where it was there.

    show_stored_without(smol, "# needs SmolLM2")

From then on a cell that begins with this comment runs only if ``smol`` is not None. Else the outputs that the
notebook's file has for it are shown again, so that a run of all cells neither fails nor wipes them out.
"""

from pathlib import Path

from shared.course import FileProblem, read_notebook

_rules = {}  # marker -> what it stands for is there


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
    """Show the stored outputs of the code cell with this source, from a notebook in the working folder."""
    from IPython.display import publish_display_data

    outputs = outputs_of(source, Path.cwd())
    if outputs is None:
        print("This cell was not run: what it needs is not here, and no output of it is stored.")
    for output in outputs or ():
        if output["output_type"] == "stream":
            print(_text(output["text"]), end="")
        elif output["output_type"] in ("display_data", "execute_result"):
            publish_display_data({kind: _text(data) for kind, data in output["data"].items()}, output["metadata"])


def outputs_of(source, folder):
    """The outputs that a notebook in the folder has for a code cell with this source; None if there is none."""
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = read_notebook(path)["cells"]
        except FileProblem:
            continue
        for cell in cells:
            if cell["cell_type"] == "code" and _text(cell["source"]).strip() == source.strip() and cell["outputs"]:
                return cell["outputs"]
    return None


def _text(lines):
    return "".join(lines) if isinstance(lines, list) else lines
