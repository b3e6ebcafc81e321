"""A test that leaves an asyncio task behind fails, whatever else it asserts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SAMPLE = """
import asyncio

async def test_leaves_a_task():
    global task
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")

async def test_leaves_a_task_that_ignores_its_cancel():
    global stubborn
    stubborn = asyncio.create_task(_ignore_cancel(), name="stubborn")

async def _ignore_cancel():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def test_ends_its_task():
    await asyncio.create_task(_nothing())

async def _nothing(): ...

def test_has_no_loop(): ...
"""


def test_a_task_left_behind_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest"]
    run = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "4 passed, 2 errors" in run.stdout, run.stdout
    assert "\nforgotten: " in run.stdout, run.stdout
    assert "\nstubborn: " in run.stdout, run.stdout
    assert "(ignores cancel)" in run.stdout, run.stdout
