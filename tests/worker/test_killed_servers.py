"""Real servers on one PostgreSQL, killed during a turn, with leases of an hour."""

import signal
from pathlib import Path

import asyncpg
import grpc

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc
from tests.cli.programs import SECONDS_MAX, Serving, serving
from tests.kit.server import bearer, said

STALLS = "!say a\n!stall 3000"


def settings(url: str) -> dict[str, str]:
    """Return an environment with leases too long for any test to wait for."""
    return {
        "CHATD_DATABASE_URL": url,
        "CHATD_LEASE_SECONDS": "3600",
        "CHATD_LOG_LEVEL": "warning",
        "CHATD_MIGRATE": "true",
    }


async def create(server: Serving, home: Path) -> str:
    """Begin a turn that does not end."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        request = pb.CreateChatRequest(message=said(STALLS))
        created = await stub.CreateChat(request, metadata=key(home), timeout=SECONDS_MAX)
    return str(created.chat.chat_id)


async def shows(server: Serving, home: Path, chat_id: str) -> None:
    """Wait until this server shows the answer in progress, which only the server of its run can."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        request = pb.SubscribeRequest(chat_id=chat_id)
        stream = stub.Subscribe(request, metadata=key(home), timeout=SECONDS_MAX)
        async for response in stream:
            if response.event.WhichOneof("event") == "message_part":
                break
        stream.cancel()


def key(home: Path) -> tuple[tuple[str, str], ...]:
    """Return the metadata of the root key."""
    return bearer((home / "root.key").read_text(encoding="utf-8").strip())


async def lease_of(url: str, chat_id: str) -> tuple[object, ...]:
    """Return the lease of a chat."""
    connection = await asyncpg.connect(url)
    try:
        query = "SELECT worker_id, epoch, lease_expires_at FROM chats WHERE uuid = $1"
        return tuple(await connection.fetchrow(query, chat_id))
    finally:
        await connection.close()


async def test_a_restarted_server_goes_on_with_the_turn_of_the_killed_one_at_once(
    tmp_path: Path, postgres_url: str
) -> None:
    """The lock of its home was released with it, so its lease does not last the hour."""
    with serving(tmp_path, **settings(postgres_url)) as killed:
        chat_id = await create(killed, tmp_path)
        await shows(killed, tmp_path, chat_id)
        killed.stop(signal.SIGKILL)
    with serving(tmp_path, **settings(postgres_url)) as again:
        await shows(again, tmp_path, chat_id)


async def test_a_server_that_is_only_stopped_keeps_its_chats(
    tmp_path: Path, postgres_url: str
) -> None:
    """Three servers of one home: one is stopped (SIGSTOP), one killed, and the third replaces only
    the killed one.
    """
    with serving(tmp_path, **settings(postgres_url)) as stopped:
        kept = await create(stopped, tmp_path)
        await shows(stopped, tmp_path, kept)
        stopped.process.send_signal(signal.SIGSTOP)
        lease = await lease_of(postgres_url, kept)
        with serving(tmp_path, **settings(postgres_url)) as killed:
            given_up = await create(killed, tmp_path)
            await shows(killed, tmp_path, given_up)
            killed.stop(signal.SIGKILL)
        with serving(tmp_path, **settings(postgres_url)) as third:
            await shows(third, tmp_path, given_up)
            assert await lease_of(postgres_url, kept) == lease
