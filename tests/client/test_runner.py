"""A ToolRunner: when it asks for actions, which results it keeps, and which it drops."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, tool_pb2
from chatd_client import (
    Client,
    PermissionDenied,
    Reconnect,
    StreamLost,
    ToolRunner,
    tool,
)
from chatd_server.demo.server import ServerProcess
from tests.client.scripted import Script, ScriptedService, delta, ended, scripted_server
from tests.kit.server import serving

REACHED = ended(event_pb2.STREAM_END_REASON_UNTIL_REACHED)
CALL = "!call work {}\n!step\n!say Thank you."


def response(**event: Any) -> chat_service_pb2.SubscribeResponse:
    """Return a response with one event."""
    return chat_service_pb2.SubscribeResponse(
        event=event_pb2.ChatEvent(**event), cursor=chat_pb2.Cursor(sequence=1)
    )


ACTION = tool_pb2.PendingAction(
    sequence=7, tool_calls=[tool_pb2.PendingToolCall(tool_call_id="1", tool_name="work")]
)
CAUGHT_UP = response(caught_up=event_pb2.CaughtUp())
ASKED = response(sequence=7, action_required=event_pb2.ActionRequired(action=ACTION))
RESOLVED = response(sequence=8, action_resolved=event_pb2.ActionResolved())


def waits(service: ScriptedService) -> None:
    """Let a service wait for the action."""

    def answer(request: Any) -> Any:
        if isinstance(request, chat_service_pb2.ListPendingActionsRequest):
            return chat_service_pb2.ListPendingActionsResponse(actions=[ACTION])
        return chat_service_pb2.SubmitToolResultsResponse()

    service.answer = answer


def submits(service: ScriptedService) -> list[chat_service_pb2.SubmitToolResultsRequest]:
    """Return what was submitted."""
    return [
        request
        for request in service.calls
        if isinstance(request, chat_service_pb2.SubmitToolResultsRequest)
    ]


@pytest.mark.parametrize(
    "told", [[CAUGHT_UP], [ASKED], [CAUGHT_UP, ASKED], [ASKED, CAUGHT_UP], [ASKED, ASKED]]
)
async def test_a_call_runs_once_however_often_a_runner_hears_of_it(
    told: list[chat_service_pb2.SubscribeResponse],
) -> None:
    """It asks when it has caught up, and the event may come as well, also twice after a cut."""
    runs: list[str] = []

    @tool
    async def work() -> str:
        """Work."""
        runs.append("run")
        return "done"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        cut = Script([CAUGHT_UP], grpc.StatusCode.UNAVAILABLE)
        service.scripts = [Script(told, grpc.StatusCode.UNAVAILABLE), cut, Script([REACHED])]
        cursor = chat_pb2.Cursor(sequence=7)
        async for _ in ToolRunner(client.chat("c", [work])).follow(cursor=cursor):
            pass
        assert runs == ["run"]
        assert len(submits(service)) == 1


async def test_a_stream_goes_on_while_its_own_tool_runs() -> None:
    """The tool ends only because its own stream has brought a text."""
    has_come = asyncio.Event()

    @tool
    async def work() -> str:
        """Wait for the text."""
        await has_come.wait()
        return "done"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        service.scripts = [Script([ASKED, delta("hello", at=0), REACHED])]
        kinds = []
        async for it in ToolRunner(client.chat("c", [work])).follow():
            kinds.append(it.event.WhichOneof("event"))
            if it.event.message_part.text == "hello":
                has_come.set()
        assert kinds == ["action_required", "message_part", "stream_end"]
        assert len(submits(service)) == 1


async def test_an_action_that_is_over_cancels_its_tools(tmp_path: Path) -> None:
    """An interrupt stops the tool, and the run ends with the turn."""
    ends: list[str] = []

    @tool
    async def work() -> str:
        """Work until it is told to stop."""
        try:
            await client.chat(chat.id).interrupt()
            await asyncio.get_running_loop().create_future()
        finally:
            ends.append("cancelled")
        return "never"

    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat(tools=[work])
        async for _ in chat.run(CALL):
            pass
        assert ends == ["cancelled"]
        assert (await chat.get()).stop_reason == chat_pb2.STOP_REASON_INTERRUPTED


async def test_an_action_that_was_over_before_it_was_looked_at_runs_nothing() -> None:
    """The response of the server may be older than the event that ends the action."""
    runs: list[str] = []

    @tool
    async def work() -> str:
        """Work."""
        runs.append("run")
        return "done"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        service.scripts = [Script([RESOLVED, CAUGHT_UP, REACHED])]
        async for _ in ToolRunner(client.chat("c", [work])).follow():
            pass
        assert runs == []


async def test_a_tool_that_cancels_itself_gives_an_error() -> None:
    """Otherwise the chat would wait for its deadline."""

    @tool
    async def work() -> str:
        """Fail in an odd way."""
        raise asyncio.CancelledError

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        service.scripts = [Script([ASKED, REACHED])]
        async for _ in ToolRunner(client.chat("c", [work])).follow():
            pass
        (request,) = submits(service)
        assert request.results[0].is_error
        assert request.results[0].output_text == "work failed: CancelledError"


async def test_a_lost_cursor_ends_a_stream_when_its_tools_have_ended() -> None:
    """The next stream begins without a cursor, and would run a call that is still open again."""

    @tool
    async def work() -> str:
        """End when the second stream was refused."""
        while len(service.subscribes) < 2:
            await client.chat("c").pending_action()
        for _ in range(3):  # this subscribe came after the refusal
            await client.chat("c").pending_action()
        return "done"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        service.scripts = [
            Script([ASKED], grpc.StatusCode.UNAVAILABLE),
            Script([], grpc.StatusCode.OUT_OF_RANGE),
        ]
        with pytest.raises(StreamLost):
            async for _ in ToolRunner(client.chat("c", [work])).follow():
                pass
        assert len(submits(service)) == 1


async def test_what_is_refused_while_a_stream_is_silent_ends_it() -> None:
    """The refusal of results is raised at once, without the next event."""

    @tool
    async def work() -> str:
        """Work."""
        return "done"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        waits(service)
        answers = service.answer

        def answer(request: Any) -> Any:
            if isinstance(request, chat_service_pb2.SubmitToolResultsRequest):
                return grpc.StatusCode.PERMISSION_DENIED
            return answers(request)

        service.answer = answer
        service.scripts = [Script([ASKED], is_silent=True)]
        with pytest.raises(PermissionDenied):
            async for _ in ToolRunner(client.chat("c", [work])).follow():
                pass


@pytest.mark.timeout(120)
@pytest.mark.parametrize("failures", [0, 7], ids=["restarted", "away for long"])
async def test_a_result_is_kept_while_the_server_is_away(tmp_path: Path, failures: int) -> None:
    """The server is killed while the tool runs. The tool has had its effect: its result is
    submitted, once, when the server is there again.
    """
    server = ServerProcess(tmp_path)
    await server.start()
    starts: list[asyncio.Task[None]] = []
    runs: list[str] = []

    @tool
    async def work() -> str:
        """Lose the server."""
        runs.append("run")
        await server.kill()
        if not failures:
            await server.start()
        return "worked"

    def start(reconnect: Reconnect) -> None:
        if reconnect.failures == failures:
            starts.append(asyncio.create_task(server.start()))

    address = f"127.0.0.1:{server.port}"
    async with Client(address, server.key, on_reconnect=start) as client:
        chat = await client.create_chat(model="sandbox/echo", tools=[work])
        assert await chat.ask(CALL) == "Thank you."
        results = [
            part.tool_result.output_text
            for message in await chat.messages()
            for part in message.parts
            if part.HasField("tool_result")
        ]
        assert (runs, results) == (["run"], ["worked"])
    await asyncio.gather(*starts)
    await server.stop()
