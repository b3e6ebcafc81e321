"""Tiny real runs: the compared sides do the same, and give numbers."""

import os
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from bench.context import Context, Measure, loaded
from bench.cpu import cpu_seconds
from bench.directive import Directive
from bench.floors.rows import written_by_product
from bench.load import Task
from bench.loop_cases import QUICK
from bench.recording import recorded
from bench.result import Row
from bench.rows.compaction import compaction_2000
from bench.rows.loop import loop_longest, loop_longest_pg
from bench.rows.steps import step_tool
from bench.rows.stream import Shape, streaming
from bench.rows.turns import replay_10000, wake_to_first_token
from bench.servers import MODEL, durable, provider
from bench.servers import product as product_server
from bench.write import DATABASE, floor, naive, product, rows_of_product
from tests.kit.require import missing

TINY = Shape(chats=2, subscribers=2, tokens=3, rate=100)
CHATS = 2
ROUNDS = 2


def _context(folder: Path) -> Context:
    return Context(folder=folder, rounds=1, quick=True, progress=lambda _: None)


def _is_measured(row: Row) -> bool:
    values = (row.product, row.floor, row.naive)
    return not row.why and all(value is not None and value > 0 for value in values)


def test_cpu_time_of_a_process_is_its_own() -> None:
    """The value from outside is the one that the process reads itself."""
    sum(range(10_000_000))
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), rel=0.1)


@pytest.mark.timeout(120)
async def test_all_three_stream_the_same_tokens(tmp_path: Path) -> None:
    """The client counts every delta, and fails if one is missing."""
    (row,) = await streaming("tiny", TINY, TINY)(_context(tmp_path))
    assert _is_measured(row)


@pytest.mark.timeout(120)
async def test_all_four_take_steps_with_a_tool(tmp_path: Path) -> None:
    """The vendor records each request, so a side that stops early gives no row."""
    (row,) = await step_tool(_context(tmp_path))
    assert _is_measured(row)
    assert row.durable


@pytest.mark.timeout(120)
async def test_a_compacted_chat_and_a_fresh_one_take_the_same_steps(tmp_path: Path) -> None:
    """The first requests of both are about equally long: only the summary is more."""
    (row,) = await compaction_2000(_context(tmp_path))
    assert not row.why
    assert row.product
    assert row.floor
    sizes = [row.detail[side]["request_bytes"] for side in ("product", "floor")]
    assert abs(sizes[0] - sizes[1]) < 4096


@pytest.mark.timeout(120)
async def test_all_four_are_woken_by_a_message(tmp_path: Path) -> None:
    """The client counts the deltas of each turn, and times the first one."""
    (row,) = await wake_to_first_token(_context(tmp_path))
    assert _is_measured(row)
    assert row.durable
    assert all(it["p99_ms"] >= it["p50_ms"] > 0 for it in row.detail.values())


@pytest.mark.timeout(120)
async def test_product_and_floor_replay_the_same_events(tmp_path: Path) -> None:
    """The client counts them, and fails a stream in which one is missing."""
    (row,) = await replay_10000(_context(tmp_path))
    assert not row.why
    assert row.product
    assert row.floor


@pytest.mark.timeout(120)
async def test_the_durable_floor_commits_what_the_product_commits(tmp_path: Path) -> None:
    """The same turn leaves the same rows in both databases, in the same number of transactions."""
    asked = Directive(steps=3, bytes=2048)
    async with provider(tmp_path) as vendor, AsyncExitStack() as stack:
        recording = await recorded(tmp_path, vendor, Directive(steps=1, bytes=2048))
        for side in (product_server(tmp_path, vendor), durable(tmp_path, vendor, recording)):
            server = await stack.enter_async_context(side)
            task = Task(
                kind="stream",
                address=server.address,
                key=server.key,
                model=MODEL,
                text=str(asked),
                tokens=1,
            )
            await loaded(server, task)
    expected = _turn_in(tmp_path / "home" / "chatd.db")
    found = _turn_in(tmp_path / "durable.db")
    assert [kinds for kinds, _ in found] == [kinds for kinds, _ in expected]
    assert len(found) == 3 + 2 * asked.steps
    sizes = [size for _, size in expected]
    assert [size for _, size in found] == pytest.approx(sizes, rel=0.05)


def _turn_in(path: Path) -> list[tuple[str, int]]:
    """Return what each commit after CreateChat wrote: events, and bytes of the contents."""
    with closing(sqlite3.connect(path)) as connection:
        (left,) = connection.execute("SELECT count(*) FROM tool_journal").fetchone()
        assert left == 0
        commands = connection.execute("SELECT sequence FROM commands ORDER BY rowid").fetchall()
        rows = connection.execute(
            "SELECT e.sequence, e.kind, coalesce(m.role, ''), length(coalesce(content, payload))"
            " FROM events AS e LEFT JOIN messages AS m USING (chat, position) ORDER BY e.sequence"
        ).fetchall()
    # The floor starts with the message: no row measures CreateChat, so it is left out.
    message = next(number for number, row in enumerate(rows) if row[2] == "user")
    created = rows[message][0] - 1
    heads = [head for (head,) in commands if head > created]
    commits, after = [], created
    for head in heads:
        wrote = [row for row in rows if after < row[0] <= head]
        kinds = " ".join(f"{kind}{role}" for _, kind, role, _ in wrote)
        commits.append((kinds, sum(size for *_, size in wrote)))
        after = head
    return commits


@pytest.mark.timeout(120)
@pytest.mark.parametrize("measure", [loop_longest, loop_longest_pg])
async def test_the_longest_callback_of_each_case_is_named(tmp_path: Path, measure: Measure) -> None:
    """Its CPU time is at most the longest wall time, and the row is the worst case."""
    (row,) = await measure(_context(tmp_path))
    if row.why:
        missing("postgres", row.why)
    assert row.name == measure.__name__
    assert [case.name for case in row.cases] == list(QUICK)
    assert all(0 < case.cpu_ms <= case.wall_ms + 0.1 and case.where for case in row.cases)
    assert row.product == max(case.cpu_ms for case in row.cases)


async def test_the_floor_writes_what_the_product_writes(tmp_path: Path) -> None:
    """Identical but for ids and numbers; otherwise the ratio would compare different work."""
    (tmp_path / "floor").mkdir()
    expected = await rows_of_product(tmp_path)
    sample = await floor(CHATS, ROUNDS, tmp_path / "floor", "")
    found = written_by_product(tmp_path / "floor" / DATABASE)
    assert [kind for kind, _ in found.events] == [kind for kind, _ in expected.events]
    assert [(role, len(content)) for role, content in found.messages] == [
        (role, len(content)) for role, content in expected.messages
    ]
    assert sample.value > 0


async def test_product_and_orm_write_and_are_timed(tmp_path: Path) -> None:
    """The sample has every write of every chat."""
    for side in (product, naive):
        folder = tmp_path / side.__name__
        folder.mkdir()
        sample = await side(CHATS, ROUNDS, folder, "")
        assert sample.value > 0
        assert sample.detail.keys() == {"writes_per_s", "p50_ms", "p99_ms"}
