"""The tools that a chat has now: which sources are queried, and when."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import msgspec
import pytest

from chatd_server.agent.tools.offer import ToolOffer
from chatd_server.agent.turn.stop import Stop, StopCause, Stopped
from chatd_server.domain.chat import ChatConfig, ChatState, ClientTool
from chatd_server.domain.ids import ChatId, OwnerId
from chatd_server.observe import spans
from chatd_server.ports.tools import Tool
from tests.kit.make import FixedTool
from tests.kit.observer import RecordingObserver
from tests.kit.script import Gate

CHAT = ChatState(
    id=ChatId("chat"), owner_id=OwnerId("me"), root_id=ChatId("chat"), created_at=0, updated_at=0
)
MODEL = "test/model"


@dataclass
class Shelf:
    """A source whose tools the test changes."""

    held: list[Tool]
    changes: int = 0
    asked: int = 0
    gate: Gate | None = None

    def version(self, chat: ChatState, model: str) -> Hashable:  # noqa: ARG002  the port's
        return self.changes

    async def tools(self, chat: ChatState, model: str) -> Sequence[Tool]:  # noqa: ARG002  the port's
        """Return the tools once the gate is open."""
        self.asked += 1
        if self.gate is not None:
            await self.gate.pass_through()
        return tuple(self.held)


async def test_a_source_is_asked_again_only_after_a_change() -> None:
    """The two hundredth step of a turn costs one comparison."""
    shelf = Shelf([FixedTool("look")])
    offer, stop = ToolOffer([shelf], RecordingObserver()), Stop()
    await offer.refresh(CHAT, MODEL, stop)
    specs = offer.toolbox.specs
    await offer.refresh(CHAT, MODEL, stop)
    assert shelf.asked == 1
    assert offer.toolbox.specs is specs
    shelf.held.append(FixedTool("find"))
    shelf.changes += 1
    await offer.refresh(CHAT, MODEL, stop)
    assert offer.toolbox.names == ("look", "find")


async def test_a_change_of_the_chat_changes_its_tools() -> None:
    """Its owner may have changed them."""
    offer, stop = ToolOffer([Shelf([FixedTool("look")])], RecordingObserver()), Stop()
    await offer.refresh(CHAT, MODEL, stop)
    config = ChatConfig(tools=(ClientTool("mine"),), version=CHAT.config.version + 1)
    await offer.refresh(msgspec.structs.replace(CHAT, config=config), MODEL, stop)
    assert offer.toolbox.names == ("look", "mine")


async def test_the_first_source_with_a_name_has_it() -> None:
    """The log reports the others as hidden."""
    observer = RecordingObserver()
    first, second = FixedTool("look"), FixedTool("look")
    offer = ToolOffer([Shelf([first]), Shelf([second])], observer)
    await offer.refresh(CHAT, MODEL, Stop())
    assert offer.toolbox.server_tool("look") is first
    assert offer.toolbox.names == ("look",)
    assert len(observer.noted(spans.ToolHidden, chat="chat", tool="look")) == 1


async def test_a_stop_cuts_a_source_that_takes_long() -> None:
    """The tools do not change."""
    gate = Gate()
    shelf = Shelf([FixedTool("look")], gate=gate)
    offer, stop = ToolOffer([shelf], RecordingObserver()), Stop()
    asking = asyncio.create_task(offer.refresh(CHAT, MODEL, stop))
    await gate.reached()
    stop.request(StopCause.INTERRUPTED)
    with pytest.raises(Stopped):
        await asking
    assert offer.toolbox.names == ()
