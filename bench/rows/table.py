"""All rows, in the order of the table."""

from collections.abc import Mapping

from bench.context import Measure
from bench.rows import stream

GROUPS: Mapping[tuple[str, ...], Measure] = {
    ("e2e_100x50",): stream.e2e_100x50,
    ("e2e_1000",): stream.e2e_1000,
    ("e2e_1x100",): stream.e2e_1x100,
    ("e2e_burst",): stream.e2e_burst,
}
"""Rows that come from the same runs, and how they are measured."""

NAMES = tuple(name for group in GROUPS for name in group)
