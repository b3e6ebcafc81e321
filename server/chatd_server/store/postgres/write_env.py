"""What everything that writes chats shares."""

from typing import NamedTuple

from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.store.postgres.lanes import Lanes
from chatd_server.store.postgres.links import Links
from chatd_server.store.postgres.time import StoreTime
from chatd_server.store.shared.delivery import Delivery


class WriteEnv(NamedTuple):
    links: Links
    clock: Clock
    time: StoreTime
    lanes: Lanes
    observer: Observer
    delivery: Delivery
