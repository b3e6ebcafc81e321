"""`chatd chat`: a conversation at a prompt, on the public client and on nothing else."""

import asyncio
import signal

from rich.console import Console

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import ChatHandle, Client, Conflict, InvalidRequest
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


async def _answered(
    handle: ChatHandle, words: str, options: chat_pb2.TurnOptions, transcript: Transcript
) -> None:
    """Send and show the answer. Ctrl-C stops the answer, and the program if that is not heard."""
    is_sent = asyncio.Event()
    stops: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await is_sent.wait()
        await handle.interrupt()

    def on_ctrl_c(_: int) -> bool:
        if any(not it.done() for it in stops):
            return False
        stops.append(asyncio.ensure_future(stop()))
        transcript.line("  ■ stopping the answer; Ctrl-C again leaves", "dim")
        return True

    with on_signals(on_ctrl_c, signal.SIGINT):
        try:
            before = (await handle.get()).head_sequence
            response = await handle.send(words, options=options)
            is_sent.set()
            if why := await why_it_waits(handle, response):
                transcript.line(f"  ? {why}", "magenta")
            cursor = chat_pb2.Cursor(sequence=before)
            async for shown in handle.follow(cursor=cursor, until=UNTIL_ANSWERED):
                transcript.show(shown)
        finally:
            for it in stops:
                it.cancel()
            await asyncio.gather(*stops, return_exceptions=True)


async def why_it_waits(handle: ChatHandle, response: chat_service_pb2.SendMessageResponse) -> str:
    """Say why a message has no answer yet and what to do; nothing when it will have one soon."""
    waits = response.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    if not waits or not response.HasField("queued_message"):
        return ""
    action = await handle.pending_action()
    if action is None:
        return ""
    names = ", ".join(sorted({call.tool_name for call in action.tool_calls}))
    return (
        f"queued: the chat waits for results of client tools ({names}). The program that runs "
        f"these tools must submit them; to stop that turn instead: chatd interrupt {handle.id}"
    )
