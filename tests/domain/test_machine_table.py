"""Every command in every situation: what it leads to, or exactly how it is refused.

The table below is written by hand from the design and knows nothing of the machine's own.

Situations: the letter of a status (Waiting, Pending, Running, Interrupting, requires Action,
Error), or None, or Deleted; then `q` with a queue, `!` its lease or deadline has passed, `-` no
worker holds it, `a` archived. Cells: the letter of the status that follows, `=` success with
nothing written, or a refusal: `.` WRONG_STATUS, `bsy` CHAT_BUSY, `arc` CHAT_ARCHIVED, `nwa`
NOT_WAITING_FOR_ACTION, `lst` LeaseLost, `404` CHAT_NOT_FOUND, `msg` MESSAGE_NOT_FOUND.
"""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from chatd_server.domain.chat import AttemptKind, ChatConfig, Status, StopReason
from chatd_server.domain.command import (
    Acquire,
    BusyBehavior,
    ClearContext,
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Create,
    DeleteChat,
    DeleteQueued,
    EditMessage,
    ExpireAction,
    Fail,
    FailCompaction,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    PromoteQueued,
    Release,
    ReorderQueue,
    RequestCompaction,
    RequireAction,
    Rescue,
    RetryTurn,
    ScheduleRetry,
    SendMessage,
    SetArchived,
    SetTitle,
    StartAttempt,
    SubmittedResult,
    SubmitToolResults,
    TellOfChildren,
    UpdateChat,
)
from chatd_server.domain.event import SubagentChanged
from chatd_server.domain.ids import AttemptId, ChatId, MessageId, ToolCallId, TurnId
from chatd_server.domain.machine.guards import GUARDS
from chatd_server.domain.machine.table import TABLE, Row
from chatd_server.domain.message import CompactionSource, Executor, FinishReason, Text
from chatd_server.domain.refusal import LeaseLost, Refused, WrongStatus
from tests.domain import test_machine_stateful
from tests.domain.situations import SITUATIONS
from tests.kit.by_hand import CHAT, ERROR, OWNER, ByHand, call

EXPECTED = """
                N   W   Wa  P   Pq  R   Rq  R!  I   Iq  I!  I-  A   Aq  A!  E   Eq  Ea  Eqa D
Create          P   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
Create.empty    W   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
Send.queue      404 P   arc P   P   R   R   R   I   I   I   I   A   A   A   P   P   arc arc 404
Send.interrupt  404 P   arc P   P   I   I   I   I   I   I   I   P   P   P   P   P   arc arc 404
Send.other      404 P   arc P   P   R   R   R   I   I   I   I   A   A   A   P   P   arc arc 404
Send.reject     404 P   arc bsy bsy bsy bsy bsy bsy bsy bsy bsy bsy bsy bsy P   P   arc arc 404
Edit            404 P   arc P   P   P   P   P   P   P   P   P   P   P   P   P   P   arc arc 404
Interrupt       404 =   arc W   P   I   I   I   =   =   =   =   W   P   W   =   =   arc arc 404
Interrupt.other 404 =   arc =   =   =   =   =   =   =   =   =   =   =   =   =   =   arc arc 404
Submit          404 nwa arc nwa nwa nwa nwa nwa nwa nwa nwa nwa P   P   P   nwa nwa arc arc 404
Submit.part     404 nwa arc nwa nwa nwa nwa nwa nwa nwa nwa nwa A   A   A   nwa nwa arc arc 404
DeleteQueued    404 =   arc =   P   =   R   =   =   I   =   =   =   A   =   =   E   arc arc 404
Reorder         404 =   arc =   P   =   R   =   =   I   =   =   =   A   =   =   E   arc arc 404
Promote         404 .   arc msg P   msg I   msg msg I   msg msg msg P   msg msg P   arc arc 404
RetryTurn       404 .   arc .   .   .   .   .   .   .   .   .   .   .   .   P   P   arc arc 404
Compact         404 P   arc .   .   .   .   .   .   .   .   .   .   .   .   P   P   arc arc 404
ClearContext    404 W   arc .   .   .   .   .   .   .   .   .   .   .   .   W   .   arc arc 404
Update          404 W   arc P   P   R   R   R   I   I   I   I   A   A   A   E   E   arc arc 404
Update.labels   404 W   W   P   P   R   R   R   I   I   I   I   A   A   A   E   E   E   E   404
Update.same     404 =   arc =   =   =   =   =   =   =   =   =   =   =   =   =   =   arc arc 404
SetTitle        404 W   arc P   P   R   R   R   I   I   I   I   A   A   A   E   E   arc arc 404
Archive         404 W   =   .   .   .   .   .   .   .   .   .   .   .   .   E   E   =   =   404
Unarchive       404 =   W   .   .   .   .   .   .   .   .   .   .   .   .   =   =   E   E   404
Delete          404 W   W   W   W   W   W   W   W   W   W   W   W   W   W   W   W   W   W   404
TellOfChildren  404 W   W   P   P   R   R   R   I   I   I   I   A   A   A   E   E   E   E   404
Acquire         404 .   .   R   R   .   .   .   .   .   I   I   .   .   .   .   .   .   .   404
StartAttempt    404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
ScheduleRetry   404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
CommitAnswer    404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
CommitResults   404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
Compaction      404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
FailCompaction  404 lst lst lst lst R   R   R   .   .   .   lst lst lst lst lst lst lst lst 404
RequireAction   404 lst lst lst lst A   A   A   .   .   .   lst lst lst lst lst lst lst lst 404
FinishTurn      404 lst lst lst lst W   P   W   .   .   .   lst lst lst lst lst lst lst lst 404
FinishInterrupt 404 lst lst lst lst .   .   .   W   P   W   lst lst lst lst lst lst lst lst 404
Fail            404 lst lst lst lst E   E   E   .   .   .   lst lst lst lst lst lst lst lst 404
Release         404 lst lst lst lst P   P   P   .   .   .   lst lst lst lst lst lst lst lst 404
Rescue          404 .   .   .   .   .   .   P   .   .   I   .   .   .   .   .   .   .   .   404
ExpireAction    404 .   .   .   .   .   .   .   .   .   .   .   .   .   P   .   .   .   .   404
"""

PARTS = (Text("new"),)
OTHER = TurnId("another turn")
NEWS = SubagentChanged(ChatId("child"), Status.WAITING)
_ATTEMPT = AttemptId("attempt")


def _send(busy: BusyBehavior, expected: TurnId | None = None) -> Callable[[ByHand], Command]:
    return lambda _: SendMessage(command_id="x", parts=PARTS, busy=busy, expected_turn_id=expected)


def _submit(*call_ids: str, partial: bool = False) -> Callable[[ByHand], Command]:
    results = tuple(SubmittedResult(ToolCallId(it), "ok", is_json=False) for it in call_ids)
    return lambda _: SubmitToolResults(command_id="x", results=results, allow_partial=partial)


def _last_queued(chat: ByHand) -> MessageId:
    queue = () if chat.maybe is None else chat.maybe.queue
    return queue[-1].id if queue else MessageId("absent")


def _reversed(chat: ByHand) -> Command:
    queue = () if chat.maybe is None else chat.maybe.queue
    return ReorderQueue(command_id="x", message_ids=tuple(it.id for it in reversed(queue)))


def _worker(kind: type[Any], /, **fields: object) -> Callable[[ByHand], Command]:
    """Return a command of the worker that holds the chat, or held it last."""

    def build(chat: ByHand) -> Command:
        hold = (
            {"command_id": "x", "worker_id": "w", "epoch": 0} if chat.maybe is None else chat.hold()
        )
        command: Command = kind(**hold, **fields)
        return command

    return build


def _step(
    attempt: AttemptKind, kind: type[Any], /, *parts: Any, **fields: object
) -> Callable[[ByHand], Command]:
    """Return a command that ends an attempt, after what must have gone before it."""

    def build(chat: ByHand) -> Command:
        if chat.maybe is not None and chat.state.status is Status.RUNNING:
            if parts:
                chat.answer(*parts)
            new: dict[str, object] = {"attempt_id": chat.attempt(attempt)}
            if kind is CommitResults:
                new["results"] = (chat.result("s1"),)
            return _worker(kind, **{**fields, **new})(chat)
        return _worker(kind, **fields)(chat)

    return build


def _require_action(chat: ByHand) -> Command:
    if chat.maybe is not None and chat.state.status is Status.RUNNING:
        chat.answer(call("c1", Executor.CLIENT))
    return _worker(RequireAction)(chat)


def _finish(chat: ByHand) -> Command:
    turn = None if chat.maybe is None else chat.maybe.turn
    turn_id = TurnId("") if turn is None else turn.id
    return _worker(FinishTurn, turn_id=turn_id, stop_reason=StopReason.END_TURN)(chat)


COMMANDS: dict[str, Callable[[ByHand], Command]] = {
    "Create": lambda _: Create(
        command_id="x", chat_id=CHAT, owner_id=OWNER, config=ChatConfig(), parts=PARTS
    ),
    "Create.empty": lambda _: Create(
        command_id="x", chat_id=CHAT, owner_id=OWNER, config=ChatConfig()
    ),
    "Send.queue": _send(BusyBehavior.QUEUE),
    "Send.interrupt": _send(BusyBehavior.INTERRUPT),
    "Send.other": _send(BusyBehavior.INTERRUPT, OTHER),
    "Send.reject": _send(BusyBehavior.REJECT),
    "Edit": lambda _: EditMessage(command_id="x", position=1, parts=PARTS),
    "Interrupt": lambda _: Interrupt(command_id="x"),
    "Interrupt.other": lambda _: Interrupt(command_id="x", expected_turn_id=OTHER),
    "Submit": _submit("c1", "c2"),
    "Submit.part": _submit("c1", partial=True),
    "DeleteQueued": lambda chat: DeleteQueued(command_id="x", message_id=_last_queued(chat)),
    "Reorder": _reversed,
    "Promote": lambda chat: PromoteQueued(command_id="x", message_id=_last_queued(chat)),
    "RetryTurn": lambda _: RetryTurn(command_id="x"),
    "Compact": lambda _: RequestCompaction(command_id="x"),
    "ClearContext": lambda _: ClearContext(command_id="x"),
    "Update": lambda _: UpdateChat(command_id="x", model="a/b"),
    "Update.labels": lambda _: UpdateChat(command_id="x", labels={"a": "b"}),
    "Update.same": lambda _: UpdateChat(command_id="x", title="old"),
    "SetTitle": lambda _: SetTitle(command_id="x", title="new"),
    "Archive": lambda _: SetArchived(command_id="x", archived=True),
    "Unarchive": lambda _: SetArchived(command_id="x", archived=False),
    "Delete": lambda _: DeleteChat(command_id="x"),
    "TellOfChildren": lambda _: TellOfChildren(command_id="x", news=(NEWS,)),
    "Acquire": _worker(Acquire, lease_seconds=30.0),
    "StartAttempt": _worker(StartAttempt, attempt_id=_ATTEMPT, kind=AttemptKind.MODEL),
    "ScheduleRetry": _step(
        AttemptKind.MODEL, ScheduleRetry, attempt_id=_ATTEMPT, delay_seconds=1.0, error=ERROR
    ),
    "CommitAnswer": _step(
        AttemptKind.MODEL,
        CommitAnswer,
        attempt_id=_ATTEMPT,
        parts=PARTS,
        finish_reason=FinishReason.END_TURN,
        model="a/b",
    ),
    "CommitResults": _step(
        AttemptKind.TOOLS, CommitResults, call("s1"), attempt_id=_ATTEMPT, results=()
    ),
    "Compaction": _step(
        AttemptKind.COMPACTION,
        CommitCompaction,
        attempt_id=_ATTEMPT,
        parts=PARTS,
        source=CompactionSource.AUTO,
    ),
    "FailCompaction": _step(
        AttemptKind.COMPACTION,
        FailCompaction,
        attempt_id=_ATTEMPT,
        source=CompactionSource.AUTO,
        error=ERROR,
    ),
    "RequireAction": _require_action,
    "FinishTurn": _finish,
    "FinishInterrupt": _worker(FinishInterruption),
    "Fail": _worker(Fail, error=ERROR),
    "Release": _worker(Release),
    "Rescue": _worker(Rescue),
    "ExpireAction": _worker(ExpireAction),
}

SHORT = {
    Status.WAITING: "W",
    Status.PENDING: "P",
    Status.RUNNING: "R",
    Status.INTERRUPTING: "I",
    Status.REQUIRES_ACTION: "A",
    Status.ERROR: "E",
}
REASONS = {
    "WRONG_STATUS": ".",
    "CHAT_BUSY": "bsy",
    "CHAT_ARCHIVED": "arc",
    "NOT_WAITING_FOR_ACTION": "nwa",
    "CHAT_NOT_FOUND": "404",
    "MESSAGE_NOT_FOUND": "msg",
}


def outcome(chat: ByHand, build: Callable[[ByHand], Command]) -> str:
    """Return the cell that the machine deserves; a refusal must leave everything as it was."""
    command = build(chat)
    before = chat.maybe
    try:
        done = chat.do(command)
    except LeaseLost:
        cell = "lst"
    except WrongStatus as refused:
        actual = chat.state.status.upper()
        cell = REASONS[refused.reason] if refused.metadata == {"status": actual} else "not told"
    except Refused as refused:
        cell = REASONS[refused.reason]
    else:
        return SHORT[done.state.status] if done.changed else "="
    assert chat.maybe is before
    return cell


def _expected() -> dict[str, dict[str, str]]:
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {name: dict(zip(head, cells, strict=True)) for name, *cells in rows}


def test_the_table_names_every_command() -> None:
    """No command of the domain, and no situation, is missing from the table."""
    tested = {type(build(SITUATIONS["R"]())) for build in COMMANDS.values()}
    assert tested == set(get_args(Command))
    assert tested == {row.command for row in TABLE}
    assert _expected().keys() == COMMANDS.keys()


def test_every_command_is_drawn_at_random_too() -> None:
    """What the stateful test does not import it never sends. `ByHand.create` sends Create."""
    named = vars(test_machine_stateful).keys()
    assert {it.__name__ for it in get_args(Command)} - named == {"Create"}


def test_every_row_is_played() -> None:
    """A row that no situation reaches could say anything. `test_machine_workers` counts rescues."""
    played = {
        _row(chat, build(chat))
        for build in COMMANDS.values()
        for chat in (situation() for situation in SITUATIONS.values())
    }
    assert [it.what for it in TABLE if it not in played] == [
        "another one without progress: the turn fails (worker_lost)"
    ]


def _row(chat: ByHand, command: Command) -> Row | None:
    """Return the row of the machine that counts; None when there is none."""
    status = None if chat.maybe is None else chat.state.status
    rows = (it for it in TABLE if it.command is type(command) and status in it.statuses)
    state: Any = chat.maybe  # the guard of Create looks at the command alone
    return next(
        (it for it in rows if not it.guard or GUARDS[it.guard](state, command, chat.now)), None
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_in_each_situation(name: str) -> None:
    """The machine's answer is the one of the table above."""
    found = {it: outcome(build(), COMMANDS[name]) for it, build in SITUATIONS.items()}
    assert found == _expected()[name]
