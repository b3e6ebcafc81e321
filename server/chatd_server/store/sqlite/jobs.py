"""What the writer is asked to do. Each job is whole or not at all; see `writer.Job`."""

from collections.abc import Callable, Sequence

import msgspec

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import Acquire, Command, ExpireAction, FinishTurn, Rescue
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant, OwnerId, WorkerId
from chatd_server.domain.message import CONTENT_VERSION, ToolResult
from chatd_server.domain.refusal import LeaseLost, Refused
from chatd_server.ports import Applied, Beat, CallStart, RequestKey
from chatd_server.store.codec import command_key, encode, request_key
from chatd_server.store.rows import HOT_COMMANDS
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.ledger import Ledger
from chatd_server.store.sqlite.writer import Job

_DECIDED_ON_KNOWN = HOT_COMMANDS | {FinishTurn}
"""Commands of every turn, which the lease holder may send with the state that it knows."""


class ApplyJob(Job[Applied]):
    """One command."""

    __slots__ = ("_chat_id", "_command", "_known", "_ledger", "_owner_id", "_request")

    def __init__(
        self,
        ledger: Ledger,
        chat_id: ChatId,
        command: Command,
        *,
        known: ChatState | None,
        request: RequestKey | None,
        owner_id: OwnerId | None,
    ) -> None:
        super().__init__(savepoint=known is None or type(command) not in _DECIDED_ON_KNOWN)
        self._ledger = ledger
        self._chat_id = chat_id
        self._command = command
        self._known = known
        self._request = request
        self._owner_id = owner_id

    def run(self, again: bool) -> Applied:
        """Decide on what the lease holder knows, if that is the newest; else on fresh rows."""
        command, chat_id, request = self._command, self._chat_id, self._request
        key = (
            command_key(chat_id, command.command_id)
            if request is None
            else request_key(request.key)
        )
        if not self.savepoint and not again:
            assert self._known is not None
            applied = self._ledger.step(command, chat_id, key, self._known)
            if applied is not None:
                self.key = key
                self.commits.append(applied)
                return applied
        applied, changed = self._ledger.decide(command, chat_id, key, request, self._owner_id)
        if changed:
            self.key = key
            self.commits.append(applied)
        return applied


class SweepJob(Job[list[Applied]]):
    """The same kind of command for several chats that a query finds: acquire, rescue, expire."""

    __slots__ = ("_command", "_ledger", "_limit", "_query")

    def __init__(
        self, ledger: Ledger, query: str, limit: int, command: Callable[[ChatState], Command]
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._query = query
        self._limit = limit
        self._command = command

    def run(self, again: bool) -> list[Applied]:  # noqa: ARG002  found rows are always fresh
        """Apply the command to each chat that takes it."""
        ledger = self._ledger
        found = ledger.connection.execute(self._query, (ledger.now(), self._limit)).fetchall()
        for (chat_id,) in found:
            loaded = ledger.load(chat_id)
            if loaded is None:
                continue
            command = self._command(loaded[1])
            key = command_key(chat_id, command.command_id)
            try:
                applied, changed = ledger.decide(command, chat_id, key, None, None)
            except (Refused, LeaseLost):
                # The query asks roughly, the machine exactly.
                continue
            if changed:
                self.key = self.key or key
                self.commits.append(applied)
        return self.commits


def acquire(ledger: Ledger, worker_id: WorkerId, slots: int, lease_seconds: float) -> SweepJob:
    """Return the job that takes chats with work, oldest work first."""

    def command(state: ChatState) -> Command:
        return Acquire(
            command_id=f"acquire:{state.epoch + 1}",
            worker_id=worker_id,
            epoch=state.epoch,
            lease_seconds=lease_seconds,
        )

    return SweepJob(ledger, sql.WORK, slots, command)


def rescue(ledger: Ledger, worker_id: WorkerId, limit: int) -> SweepJob:
    """Return the job that gives back chats whose lease has expired."""

    def command(state: ChatState) -> Command:
        return Rescue(command_id=f"rescue:{state.epoch}", worker_id=worker_id, epoch=state.epoch)

    return SweepJob(ledger, sql.EXPIRED_LEASES, limit, command)


def expire_actions(ledger: Ledger, worker_id: WorkerId, limit: int) -> SweepJob:
    """Return the job that answers actions past their deadline."""

    def command(state: ChatState) -> Command:
        asked = 0 if state.action is None else state.action.sequence
        return ExpireAction(command_id=f"expire:{asked}", worker_id=worker_id, epoch=state.epoch)

    return SweepJob(ledger, sql.EXPIRED_ACTIONS, limit, command)


class StartCallsJob(Job[None]):
    """Journal rows for a batch of calls that are about to run."""

    __slots__ = ("_calls", "_chat_id", "_epoch", "_ledger")

    def __init__(
        self, ledger: Ledger, chat_id: ChatId, epoch: int, calls: Sequence[CallStart]
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._chat_id = chat_id
        self._epoch = epoch
        self._calls = calls

    def run(self, again: bool) -> None:  # noqa: ARG002  the same rows as before
        """Compare the epoch and write."""
        connection = self._ledger.connection
        row_id = _count_journal(self._ledger, self._chat_id, self._epoch)
        connection.executemany(
            sql.START_CALL,
            [(row_id, call.call_id, call.started_at, CONTENT_VERSION) for call in self._calls],
        )


class FinishCallJob(Job[None]):
    """The outcome of a call."""

    __slots__ = ("_chat_id", "_epoch", "_ledger", "_result")

    def __init__(self, ledger: Ledger, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        super().__init__()
        self._ledger = ledger
        self._chat_id = chat_id
        self._epoch = epoch
        self._result = result

    def run(self, again: bool) -> None:  # noqa: ARG002  the first outcome stands
        """Compare the epoch and write."""
        row_id = _count_journal(self._ledger, self._chat_id, self._epoch)
        self._ledger.connection.execute(
            sql.RECORD_OUTCOME,
            (row_id, self._result.call_id, CONTENT_VERSION, encode(self._result)),
        )


def _count_journal(ledger: Ledger, chat_id: ChatId, epoch: int) -> int:
    found = ledger.connection.execute(sql.COUNT_JOURNAL, (chat_id, epoch)).fetchone()
    if found is None:
        raise LeaseLost(f"the lease {epoch} of chat {chat_id} is over")
    row_id: int = found[0]
    return row_id


class BeatJob(Job[list[Beat]]):
    """A heartbeat for all chats of a worker, in one statement."""

    __slots__ = ("_held", "_lease_seconds", "_ledger", "_worker_id")

    def __init__(
        self,
        ledger: Ledger,
        worker_id: WorkerId,
        held: Sequence[tuple[ChatId, int]],
        lease_seconds: float,
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._worker_id = worker_id
        self._held = held
        self._lease_seconds = lease_seconds

    def run(self, again: bool) -> list[Beat]:  # noqa: ARG002  the newest time counts
        """Move the leases that still are this worker's."""
        expires_at = self._ledger.now() + round(self._lease_seconds * MICROSECONDS)
        held = msgspec.json.encode(self._held).decode()
        rows = self._ledger.connection.execute(sql.BEAT, (expires_at, held, self._worker_id))
        return [
            Beat(chat_id, epoch, revision, Status(status))
            for chat_id, epoch, revision, status in rows.fetchall()
        ]


class PruneEventsJob(Job[tuple[int, int | None]]):
    """Drop old events of some chats; answers how many, and after which row to go on."""

    __slots__ = ("_after", "_before", "_chats_max", "_ledger")

    def __init__(self, ledger: Ledger, before: Instant, after: int, chats_max: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._before = before
        self._after = after
        self._chats_max = chats_max

    def run(self, again: bool) -> tuple[int, int | None]:  # noqa: ARG002  what is gone is gone
        """Delete, and say where the log begins now."""
        execute = self._ledger.connection.execute
        found = execute(
            sql.WITH_OLD_EVENTS, (self._after, self._before, self._chats_max)
        ).fetchall()
        dropped = 0
        for row_id, oldest in found:
            young = execute(sql.FIRST_YOUNG_EVENT, (row_id, oldest, self._before)).fetchone()
            head = execute(sql.HEAD, (row_id,)).fetchone()
            first = head[0] + 1 if young is None else young[0]
            dropped += execute(sql.DELETE_EVENTS, (row_id, first)).rowcount
            execute(sql.MOVE_OLDEST, (first, row_id))
        return dropped, found[-1][0] if len(found) == self._chats_max else None


class PruneCommandsJob(Job[int]):
    """Drop the oldest command records."""

    __slots__ = ("_before", "_ledger", "_rows_max")

    def __init__(self, ledger: Ledger, before: Instant, rows_max: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._before = before
        self._rows_max = rows_max

    def run(self, again: bool) -> int:  # noqa: ARG002  what is gone is gone
        """Delete; fewer than asked for means that no older ones are left."""
        execute = self._ledger.connection.execute
        return execute(sql.DELETE_COMMANDS, (self._rows_max, self._before)).rowcount


class StatementJob(Job[int]):
    """One statement; answers how many rows it changed."""

    __slots__ = ("_ledger", "_parameters", "_statement")

    def __init__(self, ledger: Ledger, statement: str, parameters: tuple[object, ...]) -> None:
        super().__init__()
        self._ledger = ledger
        self._statement = statement
        self._parameters = parameters

    def run(self, again: bool) -> int:  # noqa: ARG002  nothing of the first run is left
        """Execute it."""
        return self._ledger.connection.execute(self._statement, self._parameters).rowcount
