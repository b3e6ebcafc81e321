"""The durable floor: the floor's server, which also makes the product's commits.

It runs the same transactions with the same rows in the same tables, from one thread that commits
everything that waits. It decides and encodes nothing: the rows are a recording.
"""

import contextlib
import sys
from pathlib import Path

import msgspec

from bench.floors.database import SqliteFloor, connect
from bench.floors.rows import FloorChat, Recording, Written, fresh_id
from bench.floors.server import Chat, Commit, Floor, serve
from bench.loop import run_fast


class DurableChat(Chat):
    """A chat with a row in the database."""

    __slots__ = ("row",)

    def __init__(self, row: FloorChat) -> None:
        super().__init__()
        self.row = row


class DurableFloor(Floor):
    """The floor's server, with a database."""

    def __init__(self, provider: str, recording: Recording, path: Path) -> None:
        super().__init__(provider)
        made = connect(path)
        for statement in recording.schema:
            made.execute(statement)
        self._chat = recording.chat
        self._commits: dict[str, Written | None] = {
            "send": recording.send,
            "begin": recording.begin,
            "answer": recording.answer,
            "results": recording.results,
            "last": recording.last,
        }
        self._made = made
        self._database = SqliteFloor(path)

    def made(self, chat_id: str) -> DurableChat:  # noqa: ARG002  the database has ids of its own
        """Return a new chat with its row, written directly: no row of the table measures that."""
        uuid = fresh_id()
        values = {**self._chat, "uuid": uuid, "root_id": uuid}
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        # The names come from the recorded row.
        insert = f"INSERT INTO chats ({columns}) VALUES ({marks})"  # noqa: S608
        self._made.execute(insert, tuple(values.values()))
        found = f"SELECT {FloorChat.COLUMNS} FROM chats WHERE uuid = ?"  # noqa: S608  a constant
        return DurableChat(FloorChat(self._made.execute(found, (uuid,)).fetchone()))

    async def commit(self, chat: Chat, what: Commit) -> None:
        """Write the rows of this commit; return when they are on disk."""
        rows = self._commits[what]
        assert isinstance(chat, DurableChat)
        assert rows is not None, f"no {what} was recorded"
        await self._database.write(chat.row, rows)


async def main(provider: str, recording: Recording, database: Path) -> None:
    await serve(DurableFloor(provider, recording, database))


if __name__ == "__main__":
    provider, recorded, database = sys.argv[1:]
    recording = msgspec.msgpack.decode(Path(recorded).read_bytes(), type=Recording)
    with contextlib.suppress(KeyboardInterrupt):
        run_fast(main(provider, recording, Path(database)))
