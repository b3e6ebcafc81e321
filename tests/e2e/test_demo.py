"""`make run` as a user starts it: real processes, one of them killed, and none left behind."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from chatd_server.demo.__main__ import play
from chatd_server.demo.acts import ActFailed, Stage
from tests.cli.programs import environment
from tests.cli.terminals import ANSWER, CTRL_C, CTRL_D, PROMPT, Seat, terminal

ACTS = ["streamed", "thinking", "2 tools", "client tool", "cut and resumed", "killed and finished"]


def _servers() -> set[int]:
    """Return the servers that this test process started and that are alive."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "serve" in child.cmdline()}


@pytest.mark.timeout(180)
async def test_the_demo_plays_every_act_and_leaves_no_process_behind(tmp_path: Path) -> None:
    """Without a terminal it prints one line per act, and exits 0 only when each of them held."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatd_server.demo"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"✓ {name}" for name in ACTS], lines
    assert "0 missing 0 twice" in lines[4]
    assert process.returncode == 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208  pathlib's would block just as well
    assert _servers() == set()


@pytest.mark.timeout(120)
async def test_an_act_that_fails_ends_the_demo_and_the_server() -> None:
    """The first failure is told in one line, later acts are not played, and the server goes."""

    async def holds(stage: Stage) -> str:
        return stage.chat.id

    async def fails(_: Stage) -> str:
        raise ActFailed("it did not happen")

    out = io.StringIO()
    held = await play(Console(file=out, width=200), [("a", holds), ("b", fails), ("c", holds)])
    assert not held
    assert out.getvalue().splitlines()[1:] == ["✗ b: it did not happen"]
    assert _servers() == set()


# --- on a terminal ---------------------------------------------------------------------------

CHAT_ONLY = "from chatd_server.demo.__main__ import main; main([])"
WHOLE = "from chatd_server.demo.__main__ import main; main()"


@contextmanager
def _watched(tmp_path: Path, program: str = CHAT_ONLY) -> Iterator[Seat]:
    """Run the demo on a terminal."""
    words = [sys.executable, "-c", program]
    with terminal(words, environment(tmp_path / "home", TMPDIR=str(tmp_path))) as seat:
        yield seat


def _nothing_is_left(seat: Seat, tmp_path: Path) -> None:
    assert seat.left_behind() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(40)
def test_ctrl_c_stops_the_answer_and_the_demo_goes_on(tmp_path: Path) -> None:
    """The terminal's SIGINT reaches the chat alone and not its server; Ctrl-D leaves with 0."""
    with _watched(tmp_path) as seat:
        seat.until(PROMPT)
        assert len(seat.note_processes()) == 2
        seat.types(b"!text 20000 50/s\n")
        seat.until("sandbox says")
        seat.types(CTRL_C)
        seat.until("interrupted")
        seat.until(PROMPT)
        seat.types(b"!say Still here.\n")
        seat.until(ANSWER)
        seat.until("Still here.")
        seat.until(PROMPT)
        seat.types(CTRL_D)
        assert seat.ends() == 0
        _nothing_is_left(seat, tmp_path)


@pytest.mark.timeout(40)
def test_ctrl_c_at_the_prompt_leaves_the_demo(tmp_path: Path) -> None:
    """As in `chatd chat`."""
    with _watched(tmp_path) as seat:
        seat.until(PROMPT)
        seat.note_processes()
        seat.types(CTRL_C)
        assert seat.ends() == 0
        _nothing_is_left(seat, tmp_path)


@pytest.mark.timeout(40)
@pytest.mark.parametrize("typed", [b"", b"!text 20000 50/s\n"], ids=["prompt", "answer"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_and_its_server(
    tmp_path: Path, typed: bytes, end: signal.Signals
) -> None:
    """SIGTERM of a supervisor, SIGHUP of a terminal that closes: at the prompt and in an answer."""
    with _watched(tmp_path) as seat:
        seat.until(PROMPT)
        seat.types(typed)
        seat.until("sandbox says" if typed else "")
        seat.note_processes()
        if end is signal.SIGHUP:
            seat.hang_up()
        else:
            seat.process.send_signal(end)
        assert seat.ends() == 128 + end
        _nothing_is_left(seat, tmp_path)


@pytest.mark.timeout(40)
def test_ctrl_c_ends_an_act_and_the_server(tmp_path: Path) -> None:
    """Also when it is pressed again and again."""
    with _watched(tmp_path, WHOLE) as seat:
        seat.until("sandbox says")
        seat.note_processes()
        seat.types(CTRL_C * 3)
        assert seat.ends() == 128 + signal.SIGINT
        assert b"Traceback" not in seat.shown
        _nothing_is_left(seat, tmp_path)


@pytest.mark.timeout(40)
def test_the_demo_says_that_its_server_has_died(tmp_path: Path) -> None:
    """It does not try for ever to reach a process that is no more."""
    with _watched(tmp_path) as seat:
        seat.until(PROMPT)
        (server,) = seat.note_processes()[1:]
        seat.types(b"!text 20000 50/s\n")
        seat.until("sandbox says")
        server.kill()
        assert seat.ends() == 1
        assert b"make run" in seat.shown
        assert b"Traceback" not in seat.shown
        _nothing_is_left(seat, tmp_path)
