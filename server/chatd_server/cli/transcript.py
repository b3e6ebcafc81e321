"""Shows a chat as it happens: text, reasoning, tools and their times.

It only adds lines, so it reads the same in a terminal, a log and a pipe. What was shown live is not
shown again when its message is committed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from chatd.v1 import chat_pb2, chat_service_pb2, error_pb2, event_pb2, message_pb2, tool_pb2
from chatd_server.cli.statuses import status_name

_RESULT_CHARACTERS_MAX = 200


def compaction_words(event: event_pb2.CompactionFinished) -> tuple[str, str]:
    """Say how a compaction ended, and in which style."""
    if event.outcome == event_pb2.COMPACTION_OUTCOME_FAILED:
        return f"the context was not summarised: {event.error.message}", "yellow"
    if event.source in (
        event_pb2.COMPACTION_SOURCE_CLEAR,
        event_pb2.COMPACTION_SOURCE_UNSPECIFIED,  # it was clear already
    ):
        return "the context was cleared: the model begins anew", "dim"
    before = f"{event.tokens_before} → " if event.HasField("tokens_before") else ""
    return f"the context was summarised: {before}about {event.tokens_after} tokens", "dim"


@dataclass
class Transcript:
    """Prints responses of Subscribe. `show_own` prints the user's own messages too.

    The model's text goes to `console`, unless that is None; everything else goes to `notes`, by
    default the same console.
    """

    console: Console | None
    show_own: bool = True
    notes: Console | None = None
    #: Errors of turns by their ids, for the messages of a snapshot.
    failed: dict[str, error_pb2.ChatError] = field(default_factory=dict)
    _attempt_id: str = ""
    #: The attempt that summarises the context: its pieces are for the model.
    _summary_id: str = ""
    _shown: set[str] = field(default_factory=set)
    _open_style: str | None = None
    _calls: dict[str, message_pb2.ToolCallPart] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)
    #: The turn of the newest message of the snapshot.
    _turn_id: str = ""
    #: The turn that was last shown as interrupted.
    _interrupted_turn: str | None = None

    def show(self, response: chat_service_pb2.SubscribeResponse) -> None:
        """Print one response; some print nothing."""
        event = response.event
        kind = event.WhichOneof("event")
        show: Callable[[object], None] | None = getattr(self, f"_{kind}", None)
        if show is not None and kind is not None:
            show(getattr(event, kind))

    def line(self, words: str, style: str = "") -> None:
        """End the open line and print a line."""
        self._close()
        notes = self.notes or self.console
        if notes is not None:
            notes.print(Text(words, style=style), soft_wrap=True)

    # --- live ------------------------------------------------------------------------------

    def _compaction_started(self, event: event_pb2.CompactionStarted) -> None:
        self._summary_id = event.attempt_id
        self.line("  ⇣ summarising the context …", "dim")

    def _message_part(self, part: event_pb2.MessagePart) -> None:
        if part.attempt_id == self._summary_id:
            return
        self._attempt_id = part.attempt_id
        self._shown.add(part.attempt_id)
        piece = part.WhichOneof("piece")
        if piece == "text":
            self._add(part.text, "")
        elif piece == "reasoning":
            self._add(part.reasoning, "dim italic")
        elif piece == "refusal":
            self._add(part.refusal, "yellow")
        elif piece == "part":
            self._whole(part.part)

    def _tool_call_started(self, event: event_pb2.ToolCallStarted) -> None:
        self._shown.add(event.attempt_id)
        self.line(f"  ⚙ {event.tool_name} …", "cyan")

    def _tool_call_finished(self, event: event_pb2.ToolCallFinished) -> None:
        self._shown.add(event.attempt_id)
        self._result(event.result)

    def _preview_reset(self, event: event_pb2.PreviewReset) -> None:
        if self._summary_id and event.attempt_id == self._summary_id:
            return
        self._shown.discard(self._attempt_id)
        self.line("  ⟲ the answer so far is void", "dim")

    # --- durable ---------------------------------------------------------------------------

    def _snapshot(self, event: event_pb2.Snapshot) -> None:
        chat = event.chat
        self.line(f"chat {chat.chat_id}, {chat.model}, {status_name(chat.status)}", "dim")
        if event.HasField("pending_action"):
            self._pending(event.pending_action)

    def _snapshot_messages(self, event: event_pb2.SnapshotMessages) -> None:
        for message in event.messages:
            if message.compressed and message.attempt_id:
                self.line("  ⇣ here the context was summarised", "dim")
            if message.turn_id != self._turn_id:
                self._turn_over()
            self._turn_id = message.turn_id
            self._message(message)

    def _caught_up(self, _: event_pb2.CaughtUp) -> None:
        self._turn_over()

    def _turn_over(self) -> None:
        """Print the error, if any, of the turn whose last message was shown."""
        if (error := self.failed.pop(self._turn_id, None)) is not None:
            self._failure(error)

    def _message_committed(self, event: event_pb2.MessageCommitted) -> None:
        self._message(event.message)

    def _message(self, message: message_pb2.Message) -> None:
        self._close()
        if message.visibility == message_pb2.VISIBILITY_MODEL:
            return
        was_shown = bool(message.attempt_id) and message.attempt_id in self._shown
        for part in message.parts:
            if part.WhichOneof("kind") == "tool_call":
                self._calls[part.tool_call.tool_call_id] = part.tool_call
                self._call(part.tool_call)
            elif part.WhichOneof("kind") == "tool_result":
                self._result(part.tool_result)
            elif message.role == message_pb2.ROLE_USER:
                if self.show_own:
                    self.line("> " + part.text.text.replace("\n", "\n  "), "bold")
            elif not was_shown:
                self._whole(part)
        self._close()
        if message.finish_reason == message_pb2.FINISH_REASON_INTERRUPTED:
            self._interrupted(message.turn_id)

    def _status_changed(self, event: event_pb2.StatusChanged) -> None:
        if event.HasField("last_error"):
            self._failure(event.last_error)
        elif event.stop_reason == chat_pb2.STOP_REASON_INTERRUPTED:
            self._interrupted(event.turn_id)
        elif event.stop_reason == chat_pb2.STOP_REASON_MAX_STEPS:
            self.line("  ■ the turn reached its limit of steps", "yellow")

    def _compaction_finished(self, event: event_pb2.CompactionFinished) -> None:
        words, style = compaction_words(event)
        self.line(f"  ⇣ {words}", style)

    def _retry_scheduled(self, event: event_pb2.RetryScheduled) -> None:
        self._shown.discard(event.attempt_id)
        seconds = event.delay.ToTimedelta().total_seconds()
        number = event.attempt_number
        what = f"attempt {number} failed; attempt {number + 1} in {seconds:g} s"
        self.line(f"  ⟲ {what}: {event.error.message}", "yellow")

    def _action_required(self, event: event_pb2.ActionRequired) -> None:
        self._pending(event.action)

    def _queue_changed(self, event: event_pb2.QueueChanged) -> None:
        if event.entries:
            self.line(f"  … {len(event.entries)} queued", "dim")

    def _history_truncated(self, event: event_pb2.HistoryTruncated) -> None:
        position = event.first_removed_position
        self.line(f"  ✂ an edit has removed the messages from position {position} on", "dim")

    def _stream_end(self, _: event_pb2.StreamEnd) -> None:
        self._close()

    def _interrupted(self, turn_id: str) -> None:
        """Print it once: the message and the end of its turn say so; a snapshot has no ends."""
        if turn_id != self._interrupted_turn:
            self._interrupted_turn = turn_id
            self.line("  ■ interrupted", "yellow")

    def _failure(self, error: error_pb2.ChatError) -> None:
        detail = f" ({error.detail})" if error.detail else ""
        self.line(f"  ✗ {error.message}{detail}", "red")

    # --- pieces ----------------------------------------------------------------------------

    def _pending(self, action: tool_pb2.PendingAction) -> None:
        for call in action.tool_calls:
            self.line(f"  ? the client must run {call.tool_name}({call.arguments_json})", "magenta")
        self.line(f"  ? to stop that turn instead: chatd interrupt {action.chat_id}", "magenta")

    def _call(self, call: message_pb2.ToolCallPart) -> None:
        where = {
            message_pb2.TOOL_EXECUTOR_PROVIDER: " at the vendor",
            message_pb2.TOOL_EXECUTOR_CLIENT: " at the client",
        }.get(call.executor, "")
        self.line(f"  → {call.tool_name}({call.arguments_json}){where}", "cyan")

    def _result(self, result: message_pb2.ToolResultPart) -> None:
        if result.tool_call_id in self._finished:
            return
        self._finished.add(result.tool_call_id)
        output = result.output_json or result.output_text
        if len(output) > _RESULT_CHARACTERS_MAX:
            output = output[:_RESULT_CHARACTERS_MAX] + " …"
        mark, style = ("✗", "red") if result.is_error else ("✓", "green")
        took = self._took(result)
        self.line(f"  {mark} {result.tool_name}{took}: {output}", style)

    def _took(self, result: message_pb2.ToolResultPart) -> str:
        call = self._calls.get(result.tool_call_id)
        if call is None:
            return ""
        span = result.create_time.ToDatetime() - call.create_time.ToDatetime()
        return f" {span.total_seconds():.2f} s"

    def _whole(self, part: message_pb2.Part) -> None:
        kind = part.WhichOneof("kind")
        if kind == "text":
            self._add(part.text.text, "")
        elif kind == "reasoning":
            self._add(part.reasoning.text, "dim italic")
        elif kind == "refusal":
            self._add(part.refusal.text, "yellow")
        elif kind == "source":
            self.line(f"  ↗ {part.source.title} {part.source.url}", "blue")
        elif kind == "tool_result":
            self._result(part.tool_result)

    def _add(self, words: str, style: str) -> None:
        """Add text to the open line; another style starts a new line."""
        if not words or self.console is None:
            return
        if self._open_style is not None and self._open_style != style:
            self._close()
        self._open_style = style
        self.console.print(Text(words, style=style), end="", soft_wrap=True)

    def _close(self) -> None:
        if self._open_style is not None and self.console is not None:
            self.console.print()
        self._open_style = None
