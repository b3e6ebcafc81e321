"""The directive in a user's message that tells the fake provider what to do.

`bench:tokens=250,rate=50` streams text at this many deltas per second; rate 0 sends all at once.
`bench:steps=10,bytes=2048` answers with this many steps of one tool call and 2 KB of text, and then
with one word. `pid=` names the process whose CPU time is noted when each request arrives.
`bench:hold=1` begins an answer and never continues; floor and naive server do not even ask.
"""

import re

import msgspec

MARK = "bench:"
HOLD = "hold=1"
_FOUND = re.compile(rb"bench:([a-z]+=\d+(?:,[a-z]+=\d+)*)")


class Directive(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request to the fake provider."""

    tokens: int = 1
    rate: int = 0
    steps: int = 0
    bytes: int = 0
    pid: int = 0
    hold: int = 0

    def __str__(self) -> str:
        """Return the directive as the text of a user's message."""
        fields = msgspec.to_builtins(self)
        return MARK + ",".join(f"{name}={value}" for name, value in fields.items())


def directive_in(body: bytes) -> Directive:
    """Return the newest directive in a request body."""
    start = body.rfind(MARK.encode())
    found = _FOUND.match(body, start) if start >= 0 else None
    if found is None:
        return Directive()
    pairs = (pair.split("=") for pair in found[1].decode().split(","))
    return Directive(**{name: int(value) for name, value in pairs})
