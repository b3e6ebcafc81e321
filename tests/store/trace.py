"""What the embedded store asks of SQLite."""

from chatd_server.store.sqlite.store import SqliteStore


class Trace:
    """The statements that the writer executes, without their values."""

    def __init__(self, store: SqliteStore) -> None:
        self.statements: list[str] = []
        store._ledger.connection.set_trace_callback(self._take)

    def _take(self, statement: str) -> None:
        words = statement.split()
        if words[0] != "--":
            self.statements.append(" ".join(words[:3]))

    def count(self, beginning: str) -> int:
        """Return how many began so."""
        return sum(one.startswith(beginning) for one in self.statements)
