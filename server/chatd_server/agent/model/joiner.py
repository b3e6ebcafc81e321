"""Text that arrives in deltas: UTF-8 cannot encode half a surrogate pair, so none is shown."""

from chatd_server.domain.text import well_formed

REPLACEMENT = "\ufffd"


class Joiner:
    """Joins the halves of a surrogate pair that a vendor split between two deltas.

    A high surrogate at the end of a delta is held back until the next delta.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Return the text that can be shown now."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        else:
            self._held = ""
        return well_formed(text)

    def end(self) -> str:
        """Return a replacement for a held-back half that was never completed."""
        rest = REPLACEMENT if self._held else ""
        self._held = ""
        return rest
