"""`chatd chat`: a conversation at a prompt. It uses only the public client."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rich.console import Console

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import ChatdError, ChatHandle, Client, Conflict, InvalidRequest, NotFound
from chatd_server.cli.context import ACTS
from chatd_server.cli.keyboard import Lines, lines, on_signals
from chatd_server.cli.past import failed_turns
from chatd_server.cli.sending import UNTIL_ANSWERED, Sent, sent, why_it_waits
from chatd_server.cli.slash import HELP, begun, command_of
from chatd_server.cli.transcript import Transcript


async def converse(client: Client, chat_id: str = "", model: str = "") -> None:
    """Hold a conversation until the end of input, or Ctrl-C at the prompt."""
    console = Console()
    transcript = Transcript(console)
    typed = lines("> ")
    with typed.kept():
        if chat_id:
            transcript.failed = await failed_turns(client, chat_id)
            async for response in client.chat(chat_id).follow(until=UNTIL_ANSWERED):
                transcript.show(response)
        else:
            # The chat is created with the first message. Check the server and the key before that.
            first = chat_service_pb2.ListChatsRequest(page_size=1)
            await client.call(client.chats.ListChats, first)
            transcript.line("a new chat. Ctrl-C stops an answer, Ctrl-D quits, /help says more.")
        transcript.show_own = False
        while (words := await _asked(console, typed)) is not None:
            if not words.strip():
                continue
            try:
                if (act := ACTS.get(words.strip())) is not None:
                    await _act(act, client, chat_id, transcript)
                    continue
                chat_id = await _done(client, words, chat_id, model, transcript)
            except (Conflict, InvalidRequest, NotFound) as refusal:
                transcript.line(f"  ✗ {refusal}", "red")


async def _act(
    act: Callable[[ChatHandle], Awaitable[object]],
    client: Client,
    chat_id: str,
    transcript: Transcript,
) -> None:
    """Do what a line with a slash asks for, and show what comes of it."""
    if not chat_id:
        transcript.line("  ✗ there is no chat yet: say something first", "red")
        return
    chat = client.chat(chat_id)
    cursor = chat_pb2.Cursor(sequence=(await chat.get()).head_sequence)
    await act(chat)
    async for response in chat.follow(cursor=cursor, until=UNTIL_ANSWERED):
        transcript.show(response)


async def _asked(console: Console, typed: Lines) -> str | None:
    """Wait for a line; None means quit. A line that is not UTF-8 is reported and is empty."""
    asking = asyncio.ensure_future(typed.next())
    with on_signals(lambda _: asking.cancel(), signal.SIGINT):
        await _ended(asking)
    try:
        line = None if asking.cancelled() else asking.result()
    except UnicodeError:
        console.print("  ✗ the message must be UTF-8", style="red", highlight=False)
        return ""
    if line is None:
        console.print()
    return line


async def _ended(asking: asyncio.Future[str | None]) -> None:
    """Wait until a future is done. When this is cancelled, the future ends first: it restores the
    terminal.
    """
    try:
        await asyncio.wait([asking])
    finally:
        asking.cancel()
        await asyncio.wait([asking])


@dataclass
class _Stop:
    """Ctrl-C during one answer: the first asks the server to stop it, the second quits."""

    transcript: Transcript
    #: The chat, once it has the message: before that there is nothing to stop.
    chat: asyncio.Future[ChatHandle] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _request: asyncio.Task[None] | None = None

    def on_ctrl_c(self, _: int) -> bool:
        """Handle a Ctrl-C; return False to quit."""
        if self._request is not None:
            if not self._request.done():
                self._failed("the stop is not confirmed by the server: the answer may go on")
            return False
        self.transcript.line("  ■ stopping the answer; Ctrl-C again quits", "dim")
        self._request = asyncio.ensure_future(self._ask())
        return True

    async def end(self) -> None:
        """Cancel the request to stop: the answer is over."""
        if self._request is not None:
            self._request.cancel()
            await asyncio.gather(self._request, return_exceptions=True)

    async def _ask(self) -> None:
        chat = await asyncio.shield(self.chat)
        try:
            await chat.interrupt()
        except ChatdError as error:
            self._failed(f"the answer was not stopped: {error}")

    def _failed(self, why: str) -> None:
        later = self.chat.done() and f". To stop it later: chatd interrupt {self.chat.result().id}"
        self.transcript.line(f"  ✗ {why}{later or ''}", "red")


async def _done(
    client: Client, words: str, chat_id: str, model: str, transcript: Transcript
) -> str:
    """Do what a line says: a command, or a message to send; return the chat."""
    command = command_of(words.rstrip())
    if command is None:
        sending = sent(client, words, chat_id, model)
        return await _answered(sending, transcript, is_new=not chat_id)
    if command[0] == "help":
        transcript.line(HELP, "dim")
        return chat_id
    if not chat_id:
        raise InvalidRequest("there is no chat yet: send a message first")
    beginning = await begun(client.chat(chat_id), *command, transcript)
    if beginning is not None:
        await _answered(beginning, transcript)
    return chat_id


async def _answered(
    sending: Awaitable[Sent], transcript: Transcript, *, is_new: bool = False
) -> str:
    """Send, show the answer and return the chat. Ctrl-C stops the answer, a second one quits."""
    stop = _Stop(transcript)
    with on_signals(stop.on_ctrl_c, signal.SIGINT):
        try:
            message = await sending
            stop.chat.set_result(message.handle)
            if is_new:
                transcript.line(f"chat {message.handle.id}, {message.response.chat.model}", "dim")
            if why := await why_it_waits(message):
                transcript.line(f"  ? {why}", "magenta")
            answer = message.handle.follow(cursor=message.cursor, until=UNTIL_ANSWERED)
            async for response in answer:
                transcript.show(response)
        finally:
            await stop.end()
    return message.handle.id
