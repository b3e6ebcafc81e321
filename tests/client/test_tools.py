"""Where client tools run: plain functions in threads, async ones on the event loop."""

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import pytest

from chatd.v1 import chat_service_pb2, event_pb2, tool_pb2
from chatd_client import Client, ClientTool, SyncClient, ToolFailed, ToolRunner, tool
from tests.client.scripted import Script, ScriptedService, delta, ended, scripted_server

BOUND_SECONDS = 5.0
"""How long a thread waits for what must come; only a test that fails waits so long."""

T = TypeVar("T")

END = ended(event_pb2.STREAM_END_REASON_UNTIL_REACHED)


def action_of(*names: str) -> tool_pb2.PendingAction:
    """Return an action with one call, without arguments, of each tool."""
    calls = [
        tool_pb2.PendingToolCall(tool_call_id=str(number), tool_name=name)
        for number, name in enumerate(names, 1)
    ]
    return tool_pb2.PendingAction(sequence=1, tool_calls=calls)


def asks_for(service: ScriptedService, name: str) -> Script:
    """Let the service wait for one call of a tool; return the stream that says so."""
    action = action_of(name)

    def answer(request: Any) -> Any:
        if isinstance(request, chat_service_pb2.ListPendingActionsRequest):
            return chat_service_pb2.ListPendingActionsResponse(actions=[action])
        response = type(request).__name__.replace("Request", "Response")
        return getattr(chat_service_pb2, response)()

    service.answer = answer
    event = event_pb2.ChatEvent(snapshot=event_pb2.Snapshot(pending_action=action))
    return Script([chat_service_pb2.SubscribeResponse(event=event), END])


def submitted(service: ScriptedService) -> list[tuple[str, bool]]:
    """Return what was submitted: the words of each result, and whether it is an error."""
    return [
        (result.output_text or result.output_json, result.is_error)
        for request in service.calls
        if isinstance(request, chat_service_pb2.SubmitToolResultsRequest)
        for result in request.results
    ]


async def result_of(known: ClientTool) -> tool_pb2.ToolResultInput:
    """Run one call without arguments."""
    return await known.result(tool_pb2.PendingToolCall(tool_call_id="1", tool_name=known.name))


class Computation:
    """A plain tool that computes until it is told to end, as a test sees it."""

    def __init__(self) -> None:
        self.has_begun, self.may_end, self.has_ended = (threading.Event() for _ in range(3))
        self.tool = tool(self.compute)

    def compute(self) -> str:
        """Take a while."""
        self.has_begun.set()
        in_time = self.may_end.wait(BOUND_SECONDS)
        self.has_ended.set()
        return "computed" if in_time else "nobody came while it computed"


async def come(event: threading.Event) -> bool:
    """Wait for an event of another thread without blocking the loop; say whether it came."""
    return await asyncio.to_thread(event.wait, BOUND_SECONDS)


# --- side by side --------------------------------------------------------------------------


async def test_plain_tools_of_one_action_run_side_by_side() -> None:
    """Each waits for the other, so one after the other they would never end."""
    barrier = threading.Barrier(2)

    @tool
    def meet() -> str:
        """Wait for the other call."""
        barrier.wait(BOUND_SECONDS)
        return "met"

    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = lambda _: chat_service_pb2.SubmitToolResultsResponse()
        await ToolRunner(client.chat("c"), [meet]).answer(action_of("meet", "meet"))
    assert submitted(service) == [("met", False)] * 2


async def test_a_stream_goes_on_while_a_plain_tool_computes() -> None:
    """The tool ends only because another stream of the same loop has brought its text."""
    computation = Computation()
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.scripts = [asks_for(service, "compute"), Script([delta("hello", at=0), END])]
        runner = ToolRunner(client.chat("a"), [computation.tool])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_drained(runner))
            assert await come(computation.has_begun)
            async for response in client.chat("b").follow():
                if response.event.message_part.text == "hello":
                    computation.may_end.set()
    assert submitted(service) == [("computed", False)]


async def _drained(runner: ToolRunner) -> None:
    async for _ in runner.follow():
        pass


async def test_a_stream_of_the_sync_twin_goes_on_too() -> None:
    """Its loop serves all threads of a script; a tool in one of them does not block it."""
    computation = Computation()

    def script(address: str) -> None:
        with SyncClient(address, "chatd_k") as client, ThreadPoolExecutor() as threads:
            chat = client.create_chat(tools=[computation.tool])
            running = threads.submit(list, chat.run("go"))
            assert computation.has_begun.wait(BOUND_SECONDS)
            for response in client.chat("b").follow():
                if response.event.message_part.text == "hello":
                    computation.may_end.set()
            running.result(BOUND_SECONDS)

    async with scripted_server() as (service, address):
        service.scripts = [asks_for(service, "compute"), Script([delta("hello", at=0), END])]
        await asyncio.to_thread(script, address)
    assert submitted(service) == [("computed", False)]


async def test_a_plain_tool_may_use_the_sync_client_that_runs_it() -> None:
    """It does not run on the loop, which its own call needs."""

    def script(address: str) -> None:
        with SyncClient(address, "chatd_k") as client:

            @tool
            def look() -> str:
                """Look at another chat."""
                return f"found {client.chat('b').get().chat_id!r}"

            list(client.create_chat(tools=[look]).run("go"))

    async with scripted_server() as (service, address):
        service.scripts = [asks_for(service, "look")]
        await asyncio.to_thread(script, address)
    assert submitted(service) == [("found ''", False)]


# --- which thread --------------------------------------------------------------------------


@tool
def here() -> int:
    """Say which thread runs this."""
    return threading.get_ident()


async def here_async() -> int:
    return threading.get_ident()


def here_wrapped() -> Coroutine[Any, Any, int]:
    return here_async()


class Here:
    """A tool with state, as an object or as a method."""

    def __call__(self) -> int:
        return threading.get_ident()

    async def method(self) -> int:
        return threading.get_ident()


class HereAsync:
    async def __call__(self) -> int:
        return threading.get_ident()


ON_THE_LOOP = {
    "async function": here_async,
    "async method": Here().method,
    "object with an async call": HereAsync(),
    "partial of an async function": functools.partial(here_async),
    "partial of an object with an async call": functools.partial(HereAsync()),
    "plain function that gives a coroutine": here_wrapped,
}
IN_A_THREAD = {
    "function": here.function,
    "object": Here(),
    "partial": functools.partial(here.function),
    "partial of an object": functools.partial(Here()),
}


@pytest.mark.parametrize("function", ON_THE_LOOP.values(), ids=ON_THE_LOOP.keys())
async def test_an_async_tool_stays_on_the_loop(function: Callable[[], Any]) -> None:
    """It may use objects of the loop, however it is wrapped."""
    result = await result_of(replace(here, function=function))
    assert result.output_json == str(threading.get_ident())


@pytest.mark.parametrize("function", IN_A_THREAD.values(), ids=IN_A_THREAD.keys())
async def test_a_plain_tool_leaves_the_loop(function: Callable[[], Any]) -> None:
    """Also one that is called by an object or a partial."""
    result = await result_of(replace(here, function=function))
    assert not result.is_error
    assert result.output_json != str(threading.get_ident())


CALLER: ContextVar[str] = ContextVar("CALLER")


async def test_a_plain_tool_sees_the_context_of_its_run() -> None:
    """The context of tracing and logging is copied into the thread."""
    CALLER.set("the test")

    @tool
    def caller() -> str:
        """Say who calls."""
        return CALLER.get()

    assert (await result_of(caller)).output_text == "the test"


# --- what it raises ------------------------------------------------------------------------

DEFECTS = {
    "its own words": (ToolFailed("no such city"), "no such city"),
    "a defect": (ZeroDivisionError("secret"), "fail failed: ZeroDivisionError"),
    "one that no future takes": (StopIteration("secret"), "fail failed: StopIteration"),
    "one that looks like a cancel": (CancelledError("secret"), "fail failed: CancelledError"),
    "one that looks like bad arguments": (
        msgspec.DecodeError("secret"),
        "fail failed: DecodeError",
    ),
}


@pytest.mark.parametrize(("defect", "words"), DEFECTS.values(), ids=DEFECTS.keys())
async def test_what_a_plain_tool_raises_is_its_result(defect: Exception, words: str) -> None:
    """It is returned from the thread, and shows no secrets."""

    @tool
    def fail() -> str:
        """Fail."""
        raise defect

    result = await result_of(fail)
    assert (result.output_text, result.is_error) == (words, True)


# --- a run that ends -----------------------------------------------------------------------


async def test_a_cancelled_run_leaves_a_plain_tool_to_its_end() -> None:
    """A thread cannot be stopped: the run ends at once, the tool later, without a result."""
    computation = Computation()
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        runner = ToolRunner(client.chat("c"), [computation.tool])
        run = asyncio.create_task(runner.answer(action_of("compute")))
        assert await come(computation.has_begun)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert not computation.has_ended.is_set()
        computation.may_end.set()
        assert await come(computation.has_ended)
        assert service.calls == []


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """A shell makes background programs ignore Ctrl-C, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_a_run_of_the_sync_twin_while_a_plain_tool_computes() -> None:
    """The script gets KeyboardInterrupt, and nothing is submitted."""
    computation = Computation()
    main = threading.get_ident()

    @tool
    def interrupt() -> str:
        """Type Ctrl-C, and go on."""
        signal.pthread_kill(main, signal.SIGINT)
        return computation.compute()

    with serving() as (service, address):
        service.scripts = [asks_for(service, "interrupt")]
        with SyncClient(address, "chatd_k") as client:
            with pytest.raises(KeyboardInterrupt):
                list(client.create_chat(tools=[interrupt]).run("go"))
            assert not computation.has_ended.is_set()
            computation.may_end.set()
            assert computation.has_ended.wait(BOUND_SECONDS)
    assert submitted(service) == []


@contextmanager
def serving() -> Iterator[tuple[ScriptedService, str]]:
    """Serve a script from another thread, for a test that has no event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = scripted_server()

    def wait(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(BOUND_SECONDS)

    try:
        yield wait(server.__aenter__())
    finally:
        wait(server.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
