"""Writes docs/states.md from the transition table itself."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "states.md"
sys.path[:0] = [str(ROOT / "server")]

from chatd_server.domain.chat import Status  # noqa: E402  needs the path above
from chatd_server.domain.command import ApiCommand  # noqa: E402  the same
from chatd_server.domain.machine.table import TABLE, Row  # noqa: E402  the same

HEAD = """# States of a chat

<!-- Generated from the table in server/chatd_server/domain/machine/table.py by `make docs`. -->

A chat changes only by the commands below. A command that has no row for the chat's status is
refused with FAILED_PRECONDITION and the actual status, and writes nothing. Of several rows the
first whose condition holds counts. `archived` is a flag on
`waiting` and `error`: an archived chat takes only the commands marked with an A, the rest is
CHAT_ARCHIVED. A worker's command needs the newest lease, else it writes nothing and the run ends.

"""

FROM_ANY = """
Possible in every status: {commands}.
"""

RULES = """
What a subscriber is told:

- Every change of the status is one `status_changed`. A turn that ends and whose end begins the
  turn of a queued message gives two, both with the new status: the first with the old turn and its
  stop reason, the second with the new turn.
- Inside one transition the order is: truncation, messages, action, queue, boundary, status.
- A transition that inserts a user's message, sets a boundary, or enters `waiting` or `error` first
  answers every open tool call: with its recorded outcome, else `outcome unknown` if it had
  started, else `interrupted` (`expired` after the client's deadline, `answer cut` when the model's
  answer was cut).
"""


def page() -> str:
    """Return what docs/states.md has to be."""
    anywhere = [row for row in TABLE if row.target and set(row.statuses) == set(Status)]
    named = ", ".join(f"{_name(row)} (to `{row.target}`)" for row in anywhere)
    clients = [row for row in TABLE if issubclass(row.command, ApiCommand)]
    workers = [row for row in TABLE if row not in clients]
    return (
        HEAD
        + _diagram([row for row in TABLE if row not in anywhere])
        + FROM_ANY.format(commands=named)
        + _table("Commands of clients", clients)
        + _table("Commands of workers", workers)
        + RULES
    )


def _diagram(rows: list[Row]) -> str:
    edges: dict[tuple[Status | None, Status], list[str]] = {}
    for row in rows:
        for status in row.statuses:
            if row.target is None or status is row.target:
                continue
            names = edges.setdefault((status, row.target), [])
            if _name(row) not in names:
                names.append(_name(row))
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR"]
    lines += [f"    {old or '[*]'} --> {new}: {', '.join(it)}" for (old, new), it in edges.items()]
    return "\n".join([*lines, "```", ""])


def _table(title: str, rows: list[Row]) -> str:
    lines = [
        f"\n## {title}\n",
        "| command | if | from | to | what it does |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        mark = " (A)" if row.archived else ""
        cells = (_name(row) + mark, row.guard, _statuses(row), row.target or "same", row.what)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _name(row: Row) -> str:
    return row.command.__name__


def _statuses(row: Row) -> str:
    if set(row.statuses) == set(Status):
        return "any"
    return ", ".join(status or "no chat" for status in row.statuses)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
