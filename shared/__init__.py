"""What serves the notebooks: launcher, data, exercise checks, figures, widgets, tests.

Importing this package imports nothing outside the standard library, and no module in it knows a
chapter's code by name: a notebook hands over what is to be drawn or checked.
"""
