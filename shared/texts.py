"""What must happen to a text before it can be encoded, for the rare text that needs it."""


def whole_characters(text):
    r"""The text with U+FFFD in the place of each half of a character.

    Python can hold half of a character of UTF-16, a lone *surrogate*; they come from damaged files and from programs
    that cut texts in the wrong place. Half a character has no form in UTF-8, so it could not be encoded. tiktoken puts
    the same sign in its place.

    >>> whole_characters("a\ud83e")
    'a\ufffd'
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
