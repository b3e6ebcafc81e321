"""What is deleted: records of requests after a day, events after their retention."""

from pathlib import Path

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import MICROSECONDS
from chatd_server.observe import spans
from chatd_server.service.chores import Chores
from tests.kit.server import Served, said, serving

HOUR = 3600 * MICROSECONDS
ONCE = "01890000-0000-7000-8000-000000000000"


def later(served: Served, hours: float) -> None:
    """Let time pass at once: nothing that runs waits for it."""
    served.clock._now += round(hours * HOUR)


async def test_a_request_id_is_remembered_for_a_day(tmp_path: Path) -> None:
    """For 24 hours it is the same request; after the sweep it is a new one."""
    async with serving(tmp_path) as served:
        store = served.app.database.store
        chores = Chores(store, served.clock, served.observer, 0)
        request = pb.CreateChatRequest(request_id=ONCE)
        first = (await served.call("CreateChat", request)).chat.chat_id
        later(served, 23.9)
        await chores.sweep()
        assert (await served.call("CreateChat", request)).chat.chat_id == first
        # The newest record of a database is always kept, so there has to be a newer one.
        await served.call("CreateChat", pb.CreateChatRequest())
        later(served, 0.2)
        await chores.sweep()
        assert (await served.call("CreateChat", request)).chat.chat_id != first


async def test_events_are_kept_as_long_as_their_retention(tmp_path: Path) -> None:
    """Then a cursor from before is CURSOR_EXPIRED, with what the log still has."""
    async with serving(tmp_path) as served:
        created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
        chat_id = created.chat.chat_id
        await served.settled(chat_id)
        chores = Chores(served.app.database.store, served.clock, served.observer, 1)
        later(served, 12)
        await chores.sweep()
        page = await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat_id))
        assert page.events[0].sequence == 1
        later(served, 13)
        await chores.sweep()
        assert served.observer.noted(spans.EventsPruned)
        refusal = await served.refused("ListEvents", pb.ListEventsRequest(chat_id=chat_id))
        assert refusal.reason == "CURSOR_EXPIRED"
        assert refusal.metadata["head_sequence"] == str(page.head_sequence)
        assert int(refusal.metadata["oldest_sequence"]) > 1
