"""A step behind the boundary of a compaction, beside a step of a fresh chat.

Both sides are the product: what lies before the boundary must cost a step nothing. Before each
sample the long chat is compacted again, so both contexts begin equally short.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from bench.context import Context
from bench.directive import Directive
from bench.lab import Lab, seed
from bench.result import Row, Sample, alternate, row
from bench.rows.steps import UNIT, per_step, vendor_samples
from bench.servers import MODEL, Server, product, provider
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.message import Text

MESSAGES = 2_000
STEPS = 50
TEXT = "so it goes and on it goes " * 20
FIRST = 2
"""The first steps of a turn are left out."""


async def compaction_2000(context: Context) -> list[Row]:
    """Measure steps with a tool in a chat of 2,000 compacted messages, and in a fresh chat."""
    messages = [(Text(TEXT),)] * context.size(MESSAGES, 40)
    steps = context.size(STEPS, 10)
    ids = await seed(context.folder / "home", "", {MODEL: messages})
    async with (
        provider(context.folder) as vendor,
        product(context.folder, vendor) as server,
        _lab(server) as lab,
    ):
        await lab.turn(ids[MODEL], str(Directive()))
        directive = str(Directive(steps=steps, pid=server.pid))

        async def sample(chat_id: str) -> Sample:
            # From here on: a snapshot of the long chat is not what a step costs.
            chat = (await lab.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
            await lab.send(chat_id, directive)
            await lab.follow(chat_id, after=chat.head_sequence)
            taken = await vendor_samples(vendor)
            detail = {"request_bytes": float(taken[FIRST][1])}
            return Sample(per_step(taken, (FIRST, steps)), detail)

        async def compacted() -> Sample:
            await lab.call("CompactChat", pb.CompactChatRequest(chat_id=ids[MODEL]))
            await lab.follow(ids[MODEL])
            return await sample(ids[MODEL])

        async def fresh() -> Sample:
            return await sample(await lab.chat(MODEL))

        sides = {"product": compacted, "floor": fresh}
        samples = await alternate(sides, context.rounds, context.progress)
    return [row("compaction_2000", UNIT, samples)]


@asynccontextmanager
async def _lab(server: Server) -> AsyncIterator[Lab]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Lab(channel, server.key, "")
