"""Text that comes in deltas: UTF-8 has no halves of characters, so none may be shown or stored."""

from chatd_server.domain.text import well_formed

REPLACEMENT = "\ufffd"


class Joiner:
    """Joins the halves of a character that a vendor cut between two deltas.

    A high surrogate at the end of a delta is held back until the next one.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Return what can be shown now."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        else:
            self._held = ""
        return well_formed(text)

    def end(self) -> str:
        """Return what was held back and never completed."""
        rest = REPLACEMENT if self._held else ""
        self._held = ""
        return rest
