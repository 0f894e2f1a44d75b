"""Controls in a notebook that can be used by keyboard.

JupyterLab takes the arrows, Enter and letters away from radio buttons and dropdowns in an output, for shortcuts of its
own (two times D deletes the cell). Elements with an attribute of Lumino, the library under JupyterLab, keep their keys.
"""

import ipywidgets

OWN_KEYS = """
const keepKeys = (tries) => {
  const box = typeof element === "undefined" ? null : element.closest(".course-keys");
  if (!box && tries) return setTimeout(keepKeys, 100, tries - 1);  // the script runs before its place is in the page
  const mark = () => box.querySelectorAll("input, select, textarea, button").forEach(
    (control) => control.setAttribute("data-lm-suppress-shortcuts", "true"));
  if (box) new MutationObserver(mark).observe(box, {childList: true, subtree: true});
  if (box) mark();
};
keepKeys(50);
"""


def box_with_keys(children):
    """A VBox whose controls keep their keys in JupyterLab; elsewhere, and where no script may run, a VBox."""
    script = {"output_type": "display_data", "data": {"application/javascript": OWN_KEYS}, "metadata": {}}
    box = ipywidgets.VBox([*children, ipywidgets.Output(outputs=[script])])
    box.add_class("course-keys")
    return box
