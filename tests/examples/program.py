"""Runs a program as a user would: in a process of its own, against a server process."""

import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec

from chatd_server.demo.server import ServerProcess


async def run(code: str, server: ServerProcess) -> tuple[int, str, str]:
    """Run a program; return its exit code, output and errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATD_")}
    process = await create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={**kept, "CHATD_ADDRESS": f"127.0.0.1:{server.port}", "CHATD_KEY": server.key},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()
