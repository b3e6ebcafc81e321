"""One worker's run of a chat, as `agent.turn.loop` does it, as far as the hub sees it."""

from collections.abc import Generator
from typing import Any, TypeAlias

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import AttemptKind, Status, StopReason
from chatd_server.domain.command import (
    Acquire,
    Command,
    CommitAnswer,
    CommitCompaction,
    CommitResults,
    Fail,
    FailCompaction,
    FinishInterruption,
    FinishTurn,
    Release,
    ScheduleRetry,
    SetTitle,
    StartAttempt,
)
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ToolCallId, TurnId
from chatd_server.domain.live import CallHead, CompactionStart, PieceKind
from chatd_server.domain.message import (
    CompactionSource,
    Executor,
    FinishReason,
    Text,
    ToolCall,
    ToolResult,
)
from chatd_server.domain.refusal import LeaseLost, Refused
from chatd_server.ports.live import AttemptWriter
from chatd_server.ports.store import Applied
from tests.hub.model import CHAT, NOW, ModelStore
from tests.hub.scene import Actor, Ready, Scene

Steps: TypeAlias = Generator[Ready | None, Any, None]

ERROR = failure(ErrorKind.OVERLOADED, "busy").error


def title(store: ModelStore) -> Command:
    """Return a command that is possible in every status and makes one event."""
    return SetTitle(command_id=store.command_id(), title=f"title {store.head}")


def fenced(run: "Run", actor: Actor) -> Actor:
    """Let a run end silently when its lease is lost."""
    try:
        yield from actor
    except (LeaseLost, Refused):
        if run.writer is not None:
            run.abandon()


class Run:
    """One worker's lease on the chat."""

    def __init__(self, scene: Scene, name: str = "worker", server: int = 0) -> None:
        self.scene = scene
        self._name = name
        self._server = server
        self._epoch = 0
        self._attempts = 0
        self.text = ""
        self.writer: AttemptWriter | None = None
        self.attempt_id = AttemptId("")

    # --- before the history begins ---------------------------------------------------------------

    def acquired(self) -> "Run":
        """Start with the lease."""
        self._took(self.scene.now(self._acquire(), self._server))
        return self

    def begun(self, text: str = "") -> "Run":
        """Start with an open attempt."""
        self._open(self.scene.now(self._start(AttemptKind.MODEL), self._server))
        self.says(text)
        return self

    # --- what it does ----------------------------------------------------------------------------

    def acquire(self) -> Steps:
        """Take the lease."""
        self._took((yield from self._do(self._acquire())))

    def begin(self, kind: AttemptKind = AttemptKind.MODEL) -> Steps:
        """Start an attempt, then show it."""
        self._open((yield from self._do(self._start(kind))))
        yield None

    def says(self, text: str) -> None:
        """Show more of the answer."""
        assert self.writer is not None
        self.text += text
        self.writer.append(0, PieceKind.TEXT, text)

    def answers(self, *texts: str) -> Steps:
        """Show an answer, piece by piece, and commit it."""
        for text in texts:
            self.says(text)
            yield None
        yield from self._do(self.answer())

    def answer(self) -> Command:
        """Return the command that commits the answer."""
        parts = (Text(self.text),) if self.text else ()
        return self._answer(parts, FinishReason.END_TURN)

    # --- as one commit: what `agent.loop` does between two waits ----------------------------------

    def acquires_and_begins(self) -> Steps:
        """Take the lease with an attempt, then show it."""
        acquire = self._acquire()
        self._epoch = self.scene.store.state.epoch + 1
        self._open((yield from self._do(Chain((acquire, self._start(AttemptKind.MODEL))))))
        yield None

    def answers_and_begins(self, *texts: str) -> Steps:
        """Show an answer, commit it with the next attempt, and show that attempt."""
        for text in texts:
            self.says(text)
            yield None
        answer = self.answer()
        self._open((yield from self._do(Chain((answer, self._start(AttemptKind.MODEL))))))
        yield None

    def answers_and_finishes(self, *texts: str) -> Steps:
        """Show an answer, and commit it with the end of the turn."""
        for text in texts:
            self.says(text)
            yield None
        yield from self._do(Chain((self.answer(), self._end())))

    def calls(self, name: str) -> Steps:
        """Show a call, and commit it as the answer."""
        assert self.writer is not None
        call = ToolCall(ToolCallId("call_1"), name, "{}", Executor.SERVER, NOW)
        self.writer.add(0, PieceKind.CALL, CallHead(call.id, call.name, call.executor))
        self.writer.append(0, PieceKind.CALL, call.arguments)
        yield None
        yield from self._do(self._answer((call,), FinishReason.TOOL_CALLS))

    def runs_tool(self) -> Steps:
        """Run the call as a batch."""
        yield from self.begin(AttemptKind.TOOLS)
        assert self.writer is not None
        (call,) = self.scene.store.state.calls
        self.writer.add(0, PieceKind.TOOL_STARTED, CallHead(call.id, call.name, Executor.SERVER))
        yield None
        result = ToolResult(call.id, call.name, "seen", Executor.SERVER, NOW)
        self.writer.add_when_committed(0, PieceKind.TOOL_FINISHED, result)
        yield from self._do(
            CommitResults(**self._hold(), attempt_id=self.attempt_id, results=(result,))
        )

    def begin_compaction(self) -> Steps:
        """Start a compaction, then show that it began."""
        yield from self.begin(AttemptKind.COMPACTION)
        assert self.writer is not None
        started = CompactionStart(CompactionSource.AUTO)
        self.writer.add(0, PieceKind.COMPACTION_STARTED, started)
        yield None

    def summarises(self, *texts: str) -> Steps:
        """Show a summary, piece by piece, and commit it with a message that follows it."""
        for text in texts:
            self.says(text)
            yield None
        yield from self._do(
            CommitCompaction(
                **self._hold(),
                attempt_id=self.attempt_id,
                parts=(Text(self.text),),
                source=CompactionSource.AUTO,
                unanswered=((Text("and?"),),),
            )
        )

    def fails_to_summarise(self) -> Steps:
        """Let the compaction fail; the turn goes on."""
        yield from self._do(
            FailCompaction(
                **self._hold(),
                attempt_id=self.attempt_id,
                source=CompactionSource.AUTO,
                error=ERROR,
            )
        )
        self.abandon()

    def finish(self) -> Steps:
        yield from self._do(self._end())

    def retry(self) -> Steps:
        """Let the model fail; the attempt is void."""
        again = ScheduleRetry(
            **self._hold(), attempt_id=self.attempt_id, delay_seconds=0.0, error=ERROR
        )
        yield from self._do(again)
        self.abandon()

    def fail(self) -> Steps:
        """Let the turn fail."""
        yield from self._do(Fail(**self._hold(), error=ERROR))
        self.abandon()

    def release(self) -> Steps:
        """Release the chat, as a server does that shuts down."""
        yield from self._do(Release(**self._hold()))
        self.abandon()

    def is_interrupted(self) -> Steps:
        """Wait for an interrupt, and save the partial step."""
        yield lambda: self.scene.store.state.status is Status.INTERRUPTING
        parts = (Text(self.text),) if self.text else ()
        yield from self._do(
            FinishInterruption(
                **self._hold(), attempt_id=self.attempt_id, parts=parts, model="sandbox/any"
            )
        )
        if not parts:
            self.abandon()

    def abandon(self) -> None:
        """Void what is shown, as the end of a run does. Ignores a late call."""
        assert self.writer is not None
        self.writer.abandon()
        self.writer.append(0, PieceKind.TEXT, "late")

    # --- inside ----------------------------------------------------------------------------------

    def _end(self) -> Command:
        turn = self.scene.store.state.turn
        # A turn that others have ended: the lease is over as well, and the command is refused.
        turn_id = TurnId("ended") if turn is None else turn.id
        return FinishTurn(**self._hold(), turn_id=turn_id, stop_reason=StopReason.END_TURN)

    def _do(self, command: Command | Chain) -> Generator[Ready | None, Any, Applied]:
        return (yield from self.scene.commit(command, self._server))

    def _hold(self) -> dict[str, Any]:
        return self.scene.store.hold(self._name, self._epoch)

    def _acquire(self) -> Command:
        hold = self.scene.store.hold(self._name, self.scene.store.state.epoch)
        return Acquire(**hold, lease_seconds=30.0)

    def _took(self, applied: Applied) -> None:
        self._epoch = applied.state.epoch

    def _answer(self, parts: tuple[Text | ToolCall, ...], reason: FinishReason) -> Command:
        return CommitAnswer(
            **self._hold(),
            attempt_id=self.attempt_id,
            parts=parts,
            finish_reason=reason,
            model="sandbox/any",
        )

    def _start(self, kind: AttemptKind) -> Command:
        self._attempts += 1
        self.attempt_id = AttemptId(f"{self._name}.{self._attempts}")
        self.text = ""
        return StartAttempt(**self._hold(), attempt_id=self.attempt_id, kind=kind)

    def _open(self, applied: Applied) -> None:
        turn = applied.state.turn
        assert turn is not None
        assert turn.attempt is not None
        hub = self.scene.servers[self._server].hub
        self.writer = hub.open(CHAT, self.attempt_id, turn.attempt.base_sequence)
