"""All rows, in the order of the table."""

from collections.abc import Mapping

from bench.context import Measure
from bench.rows import compaction, encoding, loop, service, steps, stream, turns, writes

GROUPS: Mapping[tuple[str, ...], Measure] = {
    ("e2e_100x50",): stream.e2e_100x50,
    ("e2e_1000",): stream.e2e_1000,
    ("e2e_1x100",): stream.e2e_1x100,
    ("e2e_burst",): stream.e2e_burst,
    ("write_sqlite_1",): writes.write_sqlite_1,
    ("write_sqlite_64",): writes.write_sqlite_64,
    ("write_pg_16",): writes.write_pg_16,
    ("turn_plain",): turns.turn_plain,
    ("wake_to_first_token",): turns.wake_to_first_token,
    ("step_tool",): steps.step_tool,
    ("unary_send",): service.unary_send,
    ("step_10", "step_200"): steps.growth,
    ("encode_10_200",): encoding.encode_10_200,
    ("replay_10000",): turns.replay_10000,
    ("compaction_2000",): compaction.compaction_2000,
    ("cold_start",): service.cold_start,
    ("idle_10000",): service.idle_10000,
    ("loop_longest",): loop.loop_longest,
    ("loop_longest_pg",): loop.loop_longest_pg,
}
"""Rows from the same runs, and how they are measured."""

NAMES = tuple(name for group in GROUPS for name in group)
