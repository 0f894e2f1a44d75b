"""How long a test lets another program run before it counts as hung.

No test waits for this long unless something hangs, and none measures time: a machine may be slow or busy. What must be
quick is measured by the bench commands instead.
"""

HANGS = 1800  # seconds
