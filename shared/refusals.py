"""Showing what a function refuses, in one line of a notebook."""


def refused(function, *arguments, **named):
    """Call a function that must raise an error, and print the error.

    >>> refused(int, "one")
    ValueError: invalid literal for int() with base 10: 'one'

    Raises:
        AssertionError: if the call goes through.
    """
    try:
        function(*arguments, **named)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    else:
        raise AssertionError(f"{getattr(function, '__name__', function)} accepted it")
