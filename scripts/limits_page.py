"""Writes docs/limits.md from the limits themselves."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "limits.md"

HEAD = """# Limits

<!-- Generated from the server's limits by `make docs`; edit chatd_server/domain/limits.py. -->

`GetServerInfo` returns the same list, so a client need not hard-code any of them. A request of
more than 4,194,304 bytes is refused by gRPC itself, with a bare `RESOURCE_EXHAUSTED`; everything
below gets an error of chatd's that says what to do.

| name | value | unit | what it bounds |
|---|---|---|---|
"""


def page() -> str:
    """Return what docs/limits.md has to be."""
    sys.path[:0] = [str(ROOT / "server")]
    from chatd_server.domain.limits import PUBLISHED  # noqa: PLC0415  needs the path above

    rows = [f"| `{it.name}` | {it.value:,} | {it.unit} | {it.reason} |" for it in PUBLISHED]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
