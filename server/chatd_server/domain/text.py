"""Text that protobuf and the databases accept, and that is not too long."""


def well_formed(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates as U+FFFD.

    Protobuf and the databases refuse lone surrogates; JSON escapes of a vendor may hold them, and a
    pair may come in two deltas. NUL stays.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def cut_to(text: str, bytes_max: int, note: str) -> tuple[str, bool]:
    """Return at most `bytes_max` bytes of the text, and whether it was cut.

    A cut is at a character boundary; the note stands at the end, inside the limit.
    """
    # UTF-8 never has fewer bytes than characters, nor more than four times as many.
    if len(text) * 4 <= bytes_max:
        return text, False
    raw = text.encode()
    if len(raw) <= bytes_max:
        return text, False
    kept = raw[: bytes_max - len(note.encode())].decode(errors="ignore")
    return kept + note, True
