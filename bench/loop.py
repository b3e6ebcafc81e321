"""The event loop that a program runs on."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_fast(main: Coroutine[Any, Any, T]) -> T:
    """Run a program on uvloop if it is installed, else on asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415  not installed everywhere
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
