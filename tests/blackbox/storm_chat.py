"""One chat of the storm: a driver that writes, followers that read, and final checks."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, chat_service_pb2, tool_pb2
from tests.blackbox import directives
from tests.blackbox.calls import Caller, reason_of, user
from tests.blackbox.follower import ACTION_OR_SETTLED, SETTLED, Follower, Story
from tests.blackbox.oracle import judge
from tests.blackbox.readers import Reader, readers
from tests.blackbox.rules import ViolationError
from tests.blackbox.view import SETTLED as SETTLED_STATUSES
from tests.blackbox.waits import ended, pause

TURNS_MAX = 4
ROUNDS_MAX = 60
"""Rounds in which the driver continues the chat before it reports that it never rests."""
INTERRUPT_SECONDS = 1.5
REPEATED = 0.1
"""Fraction of requests that are sent twice, as after a lost response."""
BEHAVIORS = (
    chat_pb2.BUSY_BEHAVIOR_QUEUE,
    chat_pb2.BUSY_BEHAVIOR_QUEUE,
    chat_pb2.BUSY_BEHAVIOR_INTERRUPT,
    chat_pb2.BUSY_BEHAVIOR_REJECT,
)


@dataclass
class StormChat:
    """One chat, whose random numbers decide everything that happens to it."""

    rng: random.Random
    choose: Callable[[], Caller]
    implemented: set[str]
    counted: Counter[str]
    pieces_promised: bool = True
    story: Story = field(init=False)
    driver: Follower = field(init=False)
    disturbed: bool = False
    """Whether something other than the client's results may have ended the newest pause."""
    slow_client: bool = field(init=False)

    async def live(self) -> None:
        """Create the chat, run a few turns, and check what all followers saw."""
        await self._create()
        crowd = readers(self.story, self.choose, self.rng, self.counted)
        async with asyncio.TaskGroup() as following:
            for reader in crowd:
                following.create_task(reader.follow())
            for _ in range(self.rng.randint(1, TURNS_MAX)):
                await self._turn()
            await self._come_to_rest()
            assert self.driver.known.cursor is not None
            self.story.final = self.driver.known.cursor.sequence
        await self._judge(crowd)

    async def _create(self) -> None:
        self.slow_client = self.rng.random() < 0.1
        request = chat_service_pb2.CreateChatRequest(model="sandbox/echo", title="storm")
        for name in directives.CLIENT_TOOLS:
            request.tools.append(tool_pb2.ToolDefinition(name=name, description="a client's tool"))
        if self.slow_client:
            request.action_timeout.CopyFrom(Duration(seconds=1))
        created = await self.choose().ask("CreateChat", request)
        self.story = Story(created.chat.chat_id, created.sequence, self.pieces_promised)
        self.driver = Follower("the driver", self.story, self.choose)

    async def _turn(self) -> None:
        """Send a message, sometimes too many, and sometimes interrupt the turn."""
        self.disturbed = self.slow_client
        endless = await self._send()
        while self.rng.random() < 0.3:
            endless = await self._send() or endless
        if endless or self.rng.random() < 0.3:
            await self._cut_short(endless=endless)
        if self.rng.random() < 0.5:
            await self._come_to_rest()

    async def _send(self) -> bool:
        message = directives.message(self.rng)
        behavior = self.rng.choice(BEHAVIORS)
        request = chat_service_pb2.SendMessageRequest(
            chat_id=self.story.chat_id, message=user(message.text), busy_behavior=behavior
        )
        self._note(f"send {chat_pb2.BusyBehavior.Name(behavior)} {message.text!r}")
        self.disturbed = self.disturbed or behavior == chat_pb2.BUSY_BEHAVIOR_INTERRUPT
        await self._write("SendMessage", request, may_be={"CHAT_BUSY"})
        return message.endless

    async def _cut_short(self, *, endless: bool) -> None:
        """Interrupt at a random moment; a turn without end may need it more than once."""
        self.disturbed = True
        await pause(self.rng.uniform(0, INTERRUPT_SECONDS))
        await self._write("InterruptChat", self._interrupt())
        if endless:
            await self._come_to_rest()

    async def _come_to_rest(self) -> None:
        """Follow the chat until it is at rest, and submit the results that it waits for."""
        for turn in range(ROUNDS_MAX):
            self.driver.until = SETTLED if self.slow_client else ACTION_OR_SETTLED
            await self._follow_and_interrupt_what_hangs()
            view = self.driver.known.view
            if view.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION:
                await self._submit()
            elif view.status == chat_pb2.CHAT_STATUS_ERROR and (view.queue or turn == 0):
                await self._leave_the_error()
            elif view.status in SETTLED_STATUSES and not view.queue:
                return
        raise self._violation(f"the chat is not at rest after {ROUNDS_MAX} rounds")

    async def _follow_and_interrupt_what_hangs(self) -> None:
        """Follow to the next stop; a queue may hold more messages that never end by themselves."""
        following = asyncio.create_task(self.driver.follow())
        try:
            while not await ended(following, 4 * INTERRUPT_SECONDS):
                self.disturbed = True
                await self._write("InterruptChat", self._interrupt())
            await following
        finally:
            following.cancel()

    async def _submit(self) -> None:
        """Submit results, sometimes wrong ones first. Guarantee 8: right ones are accepted now."""
        action = self.driver.known.view.action
        if action is None:
            raise self._violation("REQUIRES_ACTION came without action_required before it")
        request = chat_service_pb2.SubmitToolResultsRequest(chat_id=self.story.chat_id)
        for call in action.tool_calls:
            said = directives.words(self.rng)
            request.results.append(
                tool_pb2.ToolResultInput(tool_call_id=call.tool_call_id, output_text=said)
            )
        late = {"NOT_WAITING_FOR_ACTION", "TOOL_RESULTS_MISMATCH"} if self.disturbed else set()
        if self.rng.random() < 0.2:
            wrong = chat_service_pb2.SubmitToolResultsRequest(chat_id=self.story.chat_id)
            wrong.results.append(tool_pb2.ToolResultInput(tool_call_id="none", output_text="?"))
            await self._write("SubmitToolResults", wrong, may_be={"TOOL_RESULTS_MISMATCH", *late})
        await self._write("SubmitToolResults", request, may_be=late)

    async def _leave_the_error(self) -> None:
        if "RetryTurn" in self.implemented and self.rng.random() < 0.5:
            retry = chat_service_pb2.RetryTurnRequest(chat_id=self.story.chat_id)
            await self._write("RetryTurn", retry, may_be={"WRONG_STATUS"})
        else:
            request = chat_service_pb2.SendMessageRequest(
                chat_id=self.story.chat_id, message=user("!say On we go.")
            )
            await self._write("SendMessage", request)

    def _interrupt(self) -> chat_service_pb2.InterruptChatRequest:
        return chat_service_pb2.InterruptChatRequest(chat_id=self.story.chat_id)

    async def _write(
        self, method: str, request: Any, may_be: AbstractSet[str] = frozenset()
    ) -> None:
        """Write; keep the sequence of the response (guarantee 9), or accept these refusals."""
        self._note(f"{method} ...")
        self.counted[method] += 1
        try:
            response = await self.choose().ask(method, request)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            self._note(f"{method}: {error.code().name} {reason}")
            if reason not in may_be:
                words = f"{method} was refused with {error.code().name} {reason} {error.details()}"
                raise self._violation(words) from error
            return
        self._note(f"{method}: sequence {response.sequence}")
        self.story.head = max(self.story.head, response.sequence)
        if self.rng.random() < REPEATED:
            repeated = await self.choose().ask(method, request)
            if repeated != response:
                raise self._violation(f"{method} gave another response to the same request id")

    async def _judge(self, crowd: list[Reader]) -> None:
        await self._subscribe_beyond_the_head()
        # The driver read until the chat was at rest, so it is checked like the others.
        finished = await judge(self.choose(), self.story, [self.driver, *crowd])
        self.counted["chats"] += 1
        self.counted["events"] += len(finished.log)
        for follower in (self.driver, *crowd):
            self.counted["streams"] += follower.streams
            self.counted["responses"] += follower.responses
        for message in finished.messages:
            for part in message.parts:
                if directives.MISTAKE in part.text.text:
                    raise self._violation(f"not a violation of the server's: {part.text.text}")

    async def _subscribe_beyond_the_head(self) -> None:
        """Guarantee 7: a cursor beyond the head is refused at once."""
        ahead = chat_pb2.Cursor(sequence=self.story.head + 1000)
        request = chat_service_pb2.SubscribeRequest(chat_id=self.story.chat_id, resume_from=ahead)
        caller = self.choose()
        call = caller.stub.Subscribe(request, metadata=caller.metadata, wait_for_ready=True)
        try:
            said = await call.read()
        except grpc.aio.AioRpcError as error:
            killed = error.code() is grpc.StatusCode.UNAVAILABLE
            if not killed and reason_of(error) != "CURSOR_AHEAD":
                raise self._violation(f"7: a cursor beyond the head: {error.details()}") from error
        else:
            raise self._violation(f"7: a cursor beyond the head was answered with {said}")
        finally:
            call.cancel()

    def _note(self, line: str) -> None:
        self.driver.transcript.note(f"we: {line}")

    def _violation(self, words: str) -> ViolationError:
        violation = ViolationError(words)
        violation.add_note(str(self.driver.transcript))
        return violation
