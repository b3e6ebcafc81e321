"""Text that can travel: no lone surrogates, whatever a vendor's escapes held."""


def well_formed(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates as U+FFFD.

    Protobuf and the store refuse lone surrogates; JSON escapes of a vendor may hold them, and a
    pair may come in two deltas. NUL is text and stays.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
