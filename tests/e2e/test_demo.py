"""`make run` as a user starts it: real processes, one of them killed, and none left behind."""

import asyncio
import io
import os
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from chatd_server.demo.__main__ import play
from chatd_server.demo.acts import ActFailed, Stage

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
