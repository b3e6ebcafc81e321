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
    assert "3 passed, 1 error" in run.stdout, run.stdout
    assert "tasks left behind:\nforgotten" in run.stdout.replace("\nE   ", "\n"), run.stdout
