"""Results of client tools in several requests, with a real server."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from chatd.v1 import chat_service_pb2, message_pb2, tool_pb2
from chatd_client import ChatHandle, Client, tool
from chatd_client.runner import ToolRunner
from tests.kit.server import serving

LARGE = 500 * 1024


async def results(chat: ChatHandle) -> list[message_pb2.ToolResultPart]:
    """Return the results of the history, in order."""
    return [
        part.tool_result
        for message in await chat.messages()
        for part in message.parts
        if part.HasField("tool_result")
    ]


@tool
async def read(n: int) -> str:
    """Read a large file."""
    return str(n % 10) * LARGE


async def test_a_run_submits_in_parts_what_one_request_does_not_hold(tmp_path: Path) -> None:
    """Twelve results of half a MiB each; the turn goes on with all of them, whole."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[read])
        asks = "\n".join(f'!call read {{"n": {n}}}' for n in range(12))
        kinds = [it.event.WhichOneof("event") async for it in chat.run(asks)]
        assert kinds.count("action_required") == 1
        assert [it.output_text for it in await results(chat)] == [
            str(n % 10) * LARGE for n in range(12)
        ]


async def test_a_run_submits_the_results_that_still_wait(tmp_path: Path) -> None:
    """Another client has answered one of the calls meanwhile: the others are still wanted."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:

        @tool
        async def share(n: int) -> str:
            """Answer; the first call also lets another client answer it, who is faster."""
            if n == 0:
                other = client.chat(chat.id)
                action = await other.pending_action()
                assert action is not None
                answer = tool_pb2.ToolResultInput(
                    tool_call_id=action.tool_calls[0].tool_call_id, output_text="the other"
                )
                await other.submit_tool_results([answer], allow_partial=True)
            return "ours"

        chat = await client.create_chat(tools=[share])
        async for _ in chat.run('!call share {"n": 0}\n!call share {"n": 1}'):
            pass
        assert [it.output_text for it in await results(chat)] == ["the other", "ours"]


async def test_two_runs_of_one_chat_answer_each_call_once(tmp_path: Path) -> None:
    """Each submits parts; the slower one continues with what is still missing."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[read])
        await chat.send("\n".join(f'!call read {{"n": {n}}}' for n in range(12)))
        await settled(chat)
        action = await chat.pending_action()
        assert action is not None
        runner = ToolRunner(chat, [read])
        await asyncio.gather(runner.answer(action), runner.answer(action))
        await settled(chat)
        assert len(await results(chat)) == 12


async def settled(chat: ChatHandle) -> None:
    """Wait until the chat has settled."""
    until = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
    async with aclosing(chat.follow(until=until)) as responses:
        async for _ in responses:
            pass
