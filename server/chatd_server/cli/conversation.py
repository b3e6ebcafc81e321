"""`chatd chat`: a conversation at a prompt, on the public client and on nothing else."""

import asyncio
import signal
from dataclasses import dataclass, field

from rich.console import Console

from chatd.v1 import chat_pb2, chat_service_pb2, tool_pb2
from chatd_client import ChatdError, ChatHandle, Client, Conflict, InvalidRequest
from chatd_server.cli.keyboard import Lines, lines, on_signals
from chatd_server.cli.transcript import Transcript

UNTIL_ANSWERED = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED


async def converse(client: Client, chat_id: str = "", model: str = "") -> None:
    """Hold a conversation until the end of input, or Ctrl-C at the prompt."""
    console = Console()
    transcript = Transcript(console)
    typed = lines("> ")
    with typed.kept():
        handle = await _begun(client, chat_id, model, transcript)
        transcript.show_own = False
        options = chat_pb2.TurnOptions(model=model)
        while (words := await _asked(console, typed)) is not None:
            if not words.strip():
                continue
            try:
                await _answered(handle, words, options, transcript)
            except (Conflict, InvalidRequest) as refusal:
                transcript.line(f"  ✗ {refusal}", "red")


async def _begun(client: Client, chat_id: str, model: str, transcript: Transcript) -> ChatHandle:
    """Return the chat to talk to: one that is shown up to now, or a new one."""
    if chat_id:
        handle = client.chat(chat_id)
        async for response in handle.follow(until=UNTIL_ANSWERED):
            transcript.show(response)
        return handle
    handle = await client.create_chat(model=model)
    chat = await handle.get()
    transcript.line(f"chat {handle.id}, {chat.model}. Ctrl-C stops an answer, Ctrl-D leaves.")
    return handle


async def _asked(console: Console, typed: Lines) -> str | None:
    """Wait for a line; None means leave. Lines that are not UTF-8 are reported and empty."""
    asking = asyncio.ensure_future(typed.next())
    with on_signals(lambda _: asking.cancel(), signal.SIGINT):
        await _ended(asking)
    try:
        line = None if asking.cancelled() else asking.result()
    except UnicodeError:
        console.print("  ✗ what to say must be UTF-8", style="red", highlight=False)
        return ""
    if line is None:
        console.print()
    return line


async def _ended(asking: asyncio.Future[str | None]) -> None:
    """Wait for a future and not for what it holds. When this is cancelled, the future ends first:
    it has a terminal to give back.
    """
    try:
        await asyncio.wait([asking])
    finally:
        asking.cancel()
        await asyncio.wait([asking])


@dataclass
class _Stop:
    """Ctrl-C during one answer: the first asks the server to stop it, the second always leaves."""

    handle: ChatHandle
    transcript: Transcript
    #: Before that there is nothing to stop.
    is_sent: asyncio.Event = field(default_factory=asyncio.Event)
    _request: asyncio.Task[None] | None = None

    def on_ctrl_c(self, _: int) -> bool:
        """Take a Ctrl-C; return False to leave."""
        if self._request is not None:
            if not self._request.done():
                self._failed("the request to stop the answer is not confirmed, and it may go on")
            return False
        self.transcript.line("  ■ stopping the answer; Ctrl-C again leaves", "dim")
        self._request = asyncio.ensure_future(self._ask())
        return True

    async def end(self) -> None:
        """Ask no longer: the answer is over."""
        if self._request is not None:
            self._request.cancel()
            await asyncio.gather(self._request, return_exceptions=True)

    async def _ask(self) -> None:
        await self.is_sent.wait()
        try:
            await self.handle.interrupt()
        except ChatdError as error:
            self._failed(f"the answer was not stopped: {error}")

    def _failed(self, why: str) -> None:
        self.transcript.line(
            f"  ✗ {why}. To stop it later: chatd interrupt {self.handle.id}", "red"
        )


async def _answered(
    handle: ChatHandle, words: str, options: chat_pb2.TurnOptions, transcript: Transcript
) -> None:
    """Send and show the answer. Ctrl-C stops the answer, a second one the program."""
    stop = _Stop(handle, transcript)
    with on_signals(stop.on_ctrl_c, signal.SIGINT):
        try:
            before = (await handle.get()).head_sequence
            response = await handle.send(words, options=options)
            stop.is_sent.set()
            if why := await why_it_waits(handle, response):
                transcript.line(f"  ? {why}", "magenta")
            cursor = chat_pb2.Cursor(sequence=before)
            async for shown in handle.follow(cursor=cursor, until=UNTIL_ANSWERED):
                transcript.show(shown)
        finally:
            await stop.end()


async def why_it_waits(handle: ChatHandle, response: chat_service_pb2.SendMessageResponse) -> str:
    """Say why a message has no answer yet and what to do; nothing when it will have one soon."""
    waits = response.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    if not waits or not response.HasField("queued_message"):
        return ""
    action = await handle.pending_action()
    return "" if action is None else f"queued: {what_it_waits_for(action)}"


def what_it_waits_for(action: tool_pb2.PendingAction) -> str:
    """Say which client tools a chat waits for and what to do."""
    names = ", ".join(sorted({call.tool_name for call in action.tool_calls}))
    return (
        f"the chat waits for results of client tools ({names}). The program that runs these tools "
        f"must submit them; to stop that turn instead: chatd interrupt {action.chat_id}"
    )
