"""Names that people mistype: variables `CHATD_*` that chatd does not read, and what was meant."""

import difflib
from collections.abc import Collection, Iterable

import msgspec

ENV_PREFIX = "CHATD_"

CLIENT_VARIABLES = frozenset({"CONFIG", "ADDRESS", "KEY"})
"""Variables that are not settings: where the settings file is, and what the clients read."""


class UnknownVariable(msgspec.Struct, frozen=True):
    """A variable that chatd does not read. Its value may be a secret, so it is not here."""

    name: str
    #: The known variable that it resembles most; empty when it resembles none.
    nearest: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.nearest:
            return f"did you mean {self.nearest}?"
        return "`chatd config show` lists the settings"


def unknown_variables(given: Iterable[str], settings: Iterable[str]) -> tuple[UnknownVariable, ...]:
    """Return the variables that are neither a setting nor one of the clients'."""
    known = {it.upper() for it in settings} | CLIENT_VARIABLES
    ours = {it.removeprefix(ENV_PREFIX) for it in given if it.startswith(ENV_PREFIX)}
    found = ((it, nearest(it, known)) for it in sorted(ours - known))
    return tuple(UnknownVariable(ENV_PREFIX + it, near and ENV_PREFIX + near) for it, near in found)


def nearest(name: str, known: Collection[str]) -> str:
    """Return the known name that is most like this one; empty when none is."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), "")
