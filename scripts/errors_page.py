"""Writes docs/errors.md from the comments of the error enums in the contract."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "proto" / "chatd" / "v1" / "error.proto"
TARGET = ROOT / "docs" / "errors.md"

HEAD = """# Errors

<!-- Generated from proto/chatd/v1/error.proto by `make docs`; edit the comments there. -->

Every error status of chatd itself carries, in `google.rpc.Status`, exactly one
`google.rpc.ErrorInfo` with domain `chatd` and one of the reasons below, and at most one of
`BadRequest`, `PreconditionFailure`, `QuotaFailure`, `RetryInfo` and `ResourceInfo`. Details have at
most 4 KiB; violations that do not fit are counted ("and 12 more violations"). Reasons are stable.
Messages are for people and may change.

A request is processed in this order: decoded, authenticated, authorised, validated, executed. So a
request about the chat of another owner is CHAT_NOT_FOUND, whatever else is wrong with it, unless it
is too large.

Retry automatically only when a `RetryInfo` says so, or when a connection was lost. A request with a
`request_id` can always be sent again.

## Without ErrorInfo

These carry no details: grpc gives them by itself, or its health protocol defines them.

- UNIMPLEMENTED: the server has no method of this name. (A method of the contract that this server
  does not implement is NOT_IMPLEMENTED, with `ErrorInfo`.)
- RESOURCE_EXHAUSTED: the request is larger than grpc's limit of 4 MiB, or its metadata is larger
  than grpc takes (up to 8 KiB always pass).
- NOT_FOUND: `grpc.health.v1.Health/Check` was asked for a service that this server does not have.
- INTERNAL: grpc's server gives it for bytes that no client library sends (an unknown compression, a
  malformed deadline).
- UNAVAILABLE, CANCELLED, DEADLINE_EXCEEDED, UNKNOWN, INTERNAL: from the client's own library, or
  from a proxy, or from a server that stopped before it had answered. The connection failed or was
  cut, or the client's deadline has passed. A write with a request id can be sent again as it is.

## Reasons

"""

KINDS = """
## Failures of models

These are data, never an RPC status: they travel as `ChatError` in `status_changed`,
`retry_scheduled` and on the chat.

"""


def values_of(proto: str, enum: str) -> list[tuple[str, str]]:
    """Return (name without the enum's prefix, comment) of each value but the unspecified one."""
    body = re.search(rf"enum {enum} \{{(.*?)\n\}}", proto, re.DOTALL)
    assert body is not None, enum
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum).upper() + "_"
    values, comment = [], []
    for raw in body.group(1).splitlines():
        line = raw.strip()
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
        elif found := re.match(rf"{prefix}(\w+) = (\d+);", line):
            if found.group(2) != "0":
                values.append((found.group(1), " ".join(comment)))
            comment = []
    return values


def render(proto: str, never_raised: frozenset[str]) -> str:
    """Return the page."""
    rows = ["| reason | status | what it means, and what to do |", "|---|---|---|"]
    for name, comment in values_of(proto, "ErrorReason"):
        status, _, meaning = comment.partition(". ")
        note = " Not raised by this version." if name in never_raised else ""
        rows.append(f"| `{name}` | {status} | {meaning}{note} |")
    kinds = ["| kind | what it means |", "|---|---|"]
    kinds += [f"| `{name}` | {comment} |" for name, comment in values_of(proto, "ErrorKind")]
    return HEAD + "\n".join(rows) + "\n" + KINDS + "\n".join(kinds) + "\n"


def page() -> str:
    """Return what docs/errors.md has to be."""
    sys.path[:0] = [str(ROOT / "server"), str(ROOT / "gen" / "python")]
    from chatd_server.rpc.edge.errors import NEVER_RAISED_YET  # noqa: PLC0415  needs the path above

    return render(SOURCE.read_text(encoding="utf-8"), NEVER_RAISED_YET)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
