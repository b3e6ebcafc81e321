"""Follows a chat and answers the calls of its client tools.

The stream goes on while the tools run. An action that is over (answered by another client, expired,
interrupted) cancels its tools.

A runner asks the server for the open action when its stream has caught up. It does not depend on
the event that announced the action: a program that was killed while a tool ran stored a later
cursor.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import uuid4

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, tool_pb2
from chatd_client import clock
from chatd_client.errors import Conflict, InvalidRequest, StreamLost, Unavailable
from chatd_client.tools import ClientTool, given

if TYPE_CHECKING:
    from chatd_client.chat import ChatHandle

_T = TypeVar("_T")

_log = logging.getLogger("chatd_client")

REQUEST_BYTES_MAX = 2 * 1024 * 1024
"""Results of one request together: a server takes 3 MiB, everything included."""

_REFUSALS_OF_LATE_RESULTS = frozenset({"NOT_WAITING_FOR_ACTION", "TOOL_RESULTS_MISMATCH"})


class ToolRunner:
    """Follows one chat and answers the calls of its tools: those given, else the handle's own.

    Several programs may share the calls of a chat: calls of other tools are left to them. A call
    without an answer delays the turn until the action's deadline (5 minutes, or as set by
    `create_chat`), so the logger "chatd_client" warns of the first call of each such tool.

    One stream of a runner runs a call once. After a crash, and where several runners follow one
    chat, a call may run more than once; the first result counts. A tool that must not have its
    effect twice asks for its `ToolCallContext`.
    """

    def __init__(self, chat: "ChatHandle", tools: Iterable[ClientTool] | None = None) -> None:
        self._chat = chat
        self._tools = {tool.name: tool for tool in (chat.tools if tools is None else given(tools))}

    async def follow(
        self,
        *,
        cursor: chat_pb2.Cursor | None = None,
        until: chat_service_pb2.SubscribeUntil.ValueType = chat_service_pb2.SUBSCRIBE_UNTIL_FOREVER,
        include_deltas: bool = True,
        failures_max: int | None = None,
    ) -> AsyncGenerator[chat_service_pb2.SubscribeResponse, None]:
        """Yield what `ChatHandle.follow` yields, and answer every open action meanwhile.

        An action that is open when the stream begins is answered too, wherever the cursor stands.
        While the server cannot be reached, results are kept, and submitted as soon as it can.
        """
        follow = self._chat.follow(
            cursor=cursor, until=until, include_deltas=include_deltas, failures_max=failures_max
        )
        answers = _Answers(self._chat, self._tools, failures_max)
        async with aclosing(follow) as responses, _Duty(answers) as duty:
            while (response := await duty.next_of(responses)) is not None:
                event = response.event
                if event.HasField("snapshot"):
                    self._chat.unknown_tools.look(event.snapshot.chat, self._tools.values())
                if event.stream_end.reason == event_pb2.STREAM_END_REASON_UNTIL_REACHED:
                    await duty.done()
                yield response
                if (asked_by := _asked_by(event)) is not None:
                    duty.look(asked_by)
                elif event.HasField("action_resolved"):
                    duty.drop(event.sequence)

    async def answer(self, action: tool_pb2.PendingAction) -> None:
        """Run the calls of an action that are of these tools, side by side; submit the results.

        If another client was faster, or the action is over, nothing is submitted or raised. If this
        is cancelled, nothing is submitted; plain functions that have begun run to their end.
        """
        answers = _Answers(self._chat, self._tools, failures_max=0)
        await answers.submit(action, await answers.results(action))


class _Answers:
    """Runs the calls of actions and submits the results.

    `failures_max` bounds the failures in a row to reach the server; None means no bound.
    """

    def __init__(
        self, chat: "ChatHandle", tools: Mapping[str, ClientTool], failures_max: int | None
    ) -> None:
        self._chat = chat
        self._tools = tools
        self._failures_max = failures_max
        #: Unknown tools that were logged already.
        self._warned: set[str] = set()

    async def pending(self) -> tool_pb2.PendingAction | None:
        """Return the action that is open now, with its arguments in full."""
        return await self._patiently(self._chat.pending_action)

    async def results(self, action: tool_pb2.PendingAction) -> list[tool_pb2.ToolResultInput]:
        """Run the calls of an action that are of these tools, side by side."""
        self._warn_of_others(action)
        return await asyncio.gather(
            *(
                self._tools[call.tool_name].result(call, self._chat.id)
                for call in action.tool_calls
                if call.tool_name in self._tools
            )
        )

    def _warn_of_others(self, action: tool_pb2.PendingAction) -> None:
        """Log which calls are left to other programs, once for each tool."""
        others = {call.tool_name for call in action.tool_calls} - self._tools.keys()
        for name in sorted(others - self._warned):
            self._warned.add(name)
            _log.warning(
                "chat %s: the model calls the tool %s, which this program does not have: the call "
                "is left to another program, and the chat waits for it until %s",
                self._chat.id,
                name,
                action.deadline.ToDatetime(UTC).isoformat(timespec="seconds"),
            )

    async def submit(
        self, action: tool_pb2.PendingAction, results: list[tool_pb2.ToolResultInput]
    ) -> None:
        """Submit the results of an action unless it is over: in parts if they are too large for one
        request, and only for calls that still wait. Other calls stay open.
        """
        left = results
        are_all = len(results) == len(action.tool_calls)
        while left:
            part = _one_request(left)
            try:
                await self._submit(part, allow_partial=not are_all or len(part) < len(left))
                left = left[len(part) :]
            except (Conflict, InvalidRequest) as refusal:
                wanted = await self._wanted(action)
                still = [it for it in left if it.tool_call_id in wanted]
                if refusal.reason not in _REFUSALS_OF_LATE_RESULTS or len(still) == len(left):
                    raise
                left = still

    async def _submit(self, part: list[tool_pb2.ToolResultInput], *, allow_partial: bool) -> None:
        # The same id each time: a submit may have been accepted and its answer lost.
        request_id = str(uuid4())
        await self._patiently(
            lambda: self._chat.submit_tool_results(
                part, allow_partial=allow_partial, request_id=request_id
            )
        )

    async def _wanted(self, action: tool_pb2.PendingAction) -> frozenset[str]:
        """Return the ids of the calls of an action that still wait."""
        pending = await self.pending()
        # The model may have asked again meanwhile: then another action is open.
        if pending is None or pending.sequence != action.sequence:
            return frozenset()
        return frozenset(call.tool_call_id for call in pending.tool_calls)

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a call until the server can be reached. Raises other errors at once."""
        failures = 0
        while True:
            try:
                return await call()
            except Unavailable as error:
                failures += 1
                if self._failures_max is not None and failures > self._failures_max:
                    raise
                delay = error.retry_seconds
            await clock.pause(delay or clock.backoff_seconds(failures))


class _Duty:
    """The work on open actions during one stream: one task, while there is something to do.

    Leaving the context cancels it.
    """

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._task: asyncio.Task[None] | None = None
        self._look_again = False
        self._tools: asyncio.Future[list[tool_pb2.ToolResultInput]] | None = None
        #: Actions up to this sequence were begun, or are over.
        self._done_up_to: float = 0
        #: The stream has shown actions up to this sequence; a later action waits until it is shown.
        self._told_up_to: float = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        # The program will follow again without a cursor. If the action were still open then, its
        # tools would run a second time.
        if isinstance(error, StreamLost):
            await self.done()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self, told_up_to: float) -> None:
        """Ask for the open action, and begin it unless that was done. Does not wait.

        An action after the sequence `told_up_to` waits until the stream shows it: a stream that
        replays an old turn may end with that turn. Raises the errors of earlier work, as the other
        methods do.
        """
        self._collect()
        self._told_up_to = max(self._told_up_to, told_up_to)
        self._look_again = True
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def drop(self, sequence: int) -> None:
        """Cancel the tools of the action that ended with this event."""
        self._done_up_to = max(self._done_up_to, sequence)
        if self._tools is not None:
            self._tools.cancel()

    async def done(self) -> None:
        """Wait until the open action is answered or over."""
        if self._task is not None:
            await asyncio.wait({self._task})
            self._collect()

    async def next_of(self, responses: AsyncGenerator[_T, None]) -> _T | None:
        """Return the next response, None at the end. Tools go on meanwhile."""
        self._collect()
        if self._task is None:
            return await anext(responses, None)
        step = asyncio.ensure_future(_next(responses))
        try:
            await asyncio.wait({step, self._task}, return_when=asyncio.FIRST_COMPLETED)
            self._collect()
            return await step
        finally:
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)

    def _collect(self) -> None:
        """Forget work that has ended. Raises its error."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()

    async def _work(self) -> None:
        while self._look_again:
            self._look_again = False
            action = await self._answers.pending()
            if action is not None and self._done_up_to < action.sequence <= self._told_up_to:
                self._done_up_to = action.sequence
                await self._answer(action)

    async def _answer(self, action: tool_pb2.PendingAction) -> None:
        self._tools = tools = asyncio.ensure_future(self._answers.results(action))
        try:
            await asyncio.wait({tools})
        finally:
            self._tools = None
            tools.cancel()  # has an effect only when the work itself is cancelled
            await asyncio.gather(tools, return_exceptions=True)
        if not tools.cancelled():
            await self._answers.submit(action, tools.result())


def _one_request(results: Sequence[tool_pb2.ToolResultInput]) -> list[tool_pb2.ToolResultInput]:
    """Return the first results, as many as one request holds, at least one."""
    part: list[tool_pb2.ToolResultInput] = []
    size = 0
    for result in results:
        size += result.ByteSize()
        if part and size > REQUEST_BYTES_MAX:
            break
        part.append(result)
    return part


def _asked_by(event: event_pb2.ChatEvent) -> float | None:
    """Return up to which sequence there may be new open actions; None: nothing is new.

    The events only say when to ask: the log has old actions too, and leaves long arguments out.
    """
    if event.HasField("caught_up") or event.snapshot.HasField("pending_action"):
        return math.inf
    return event.action_required.action.sequence if event.HasField("action_required") else None


async def _next(items: AsyncGenerator[_T, None]) -> _T | None:
    return await anext(items, None)
