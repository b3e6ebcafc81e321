"""Page tokens: opaque, signed with the database's secret, and bound to the list they came from."""

import base64
import hashlib
import string
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.refusal import InvalidRequest
from chatd_server.rpc.edge.paging import PageTokens, size_of
from tests.kit.server import Served, bearer, refused, said, serving

SECRET = bytes(range(32))
ANN, BOB = OwnerId("ann"), OwnerId("bob")


def query(method: str = "ListChats", owner: OwnerId = ANN, *filters: object) -> Any:
    """Return the list of these words, under one secret."""
    return PageTokens(SECRET).of(owner, method, *filters)


def old_token(key: str, asked: object) -> str:
    """Return a token as version 0.1.0 made it: its fingerprint has no secret."""
    fingerprint = hashlib.blake2b(repr((key, asked)).encode(), digest_size=8).hexdigest()
    return base64.urlsafe_b64encode(msgspec.json.encode([key, fingerprint])).rstrip(b"=").decode()


@pytest.mark.parametrize("key, numbers", [("1", 1), ("9223372036854775807", 1), ("-5.7", 2)])
def test_a_token_gives_back_its_key(key: str, numbers: int) -> None:
    """A token gives its key back, and has only characters that are safe in a URL."""
    token = query().token(key)
    assert query().key(token, numbers=numbers) == key
    assert token.replace("-", "").replace("_", "").isalnum()


def test_the_end_has_no_token() -> None:
    """An empty token is both: the end, and the beginning."""
    assert query().token(None) == ""
    assert query().key("", numbers=1) is None


@pytest.mark.parametrize(
    "token",
    ["!!", "abc", "ä", "bnVsbA", "AAAA", "e30", "A" * 5000, "A" * 22, "=" * 8, "\x00"],
)
def test_a_token_of_nobody_is_refused(token: str) -> None:
    """Other words are not a position."""
    with pytest.raises(InvalidRequest, match="page_token") as caught:
        query().key(token, numbers=1)
    assert [it.field for it in caught.value.violations] == ["page_token"]


def test_a_token_with_any_bit_changed_is_refused() -> None:
    """The key inside is signed, and so is the signature."""
    packed = bytearray(base64.urlsafe_b64decode(query().token("12345") + "=="))
    for bit in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        token = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        with pytest.raises(InvalidRequest):
            query().key(token, numbers=1)


@pytest.mark.parametrize("key", ["1", "12", "123", "-5.7"], ids=len)
def test_only_the_text_that_was_issued_is_a_token(key: str) -> None:
    """Base64 writes the same bytes in several ways: the last letter may have unused bits, and the
    end may have padding.
    """
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    token = query().token(key)
    others = {token[:-1] + letter for letter in letters} | {token + "=" * n for n in (1, 2, 3, 4)}
    for other in others - {token}:
        with pytest.raises(InvalidRequest, match="page_token"):
            query().key(other, numbers=key.count(".") + 1)


@pytest.mark.parametrize(
    "other",
    [
        query("ListMessages"),
        query("ListChats", BOB),
        query("ListChats", ANN, True),
        PageTokens(SECRET[::-1]).of(ANN, "ListChats"),
    ],
    ids=["method", "owner", "filters", "database"],
)
def test_a_token_of_another_list_is_refused(other: Any) -> None:
    """Another method, owner, filter or database: the position would mean something else."""
    with pytest.raises(InvalidRequest, match="keep the filters"):
        other.key(query().token("7"), numbers=1)


def test_filters_that_look_alike_are_different_lists() -> None:
    """No two lists are written the same way."""
    token = query("L", ANN, ["a", "b"]).token("7")
    for filters in (["a,b"], ["ab"], ["a"], ["b", "a"]):
        with pytest.raises(InvalidRequest):
            query("L", ANN, filters).key(token, numbers=1)


@pytest.mark.parametrize(
    "key, numbers",
    [
        *(("x", 1), ("", 1), ("1.2", 1), ("1", 2), ("1.2.3", 2), ("9223372036854775808", 1)),
        *(("1" * 150, 1), ("٣", 1), (" 1", 1), ("1_0", 1), ("+1", 1), ("--1", 1), (".", 2)),
    ],
)
def test_a_signed_key_that_is_no_position_is_refused(key: str, numbers: int) -> None:
    """A token of a later version, for example: the signature is valid, and it is refused."""
    with pytest.raises(InvalidRequest, match="page_token"):
        query().key(query().token(key), numbers=numbers)


@pytest.mark.parametrize(
    "asked, given", [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)]
)
def test_page_sizes_have_a_default_and_a_cap(asked: int, given: int) -> None:
    """0 is the default; more than the cap is the cap."""
    assert size_of(asked) == given


# --- through a server ------------------------------------------------------------------------


async def first_page(served: Served) -> pb.ListChatsResponse:
    """Make two chats and return a page of the newer one."""
    for title in ("older", "newer"):
        await served.call("CreateChat", pb.CreateChatRequest(title=title))
    page: pb.ListChatsResponse = await served.call("ListChats", pb.ListChatsRequest(page_size=1))
    assert page.next_page_token
    return page


async def test_forged_tokens_are_refused_by_every_list(served: Served) -> None:
    """Tokens of the form that had no secret, with keys that no list has."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    name = "chatd.v1.ChatService/"
    for key in ("x", "-1", "", "1" * 5000, "9" * 19, "1.x", "1"):
        lists: list[tuple[str, Any, object]] = [
            ("ListChats", pb.ListChatsRequest(), (f"{name}ListChats", False, [], [])),
            (
                "ListMessages",
                pb.ListMessagesRequest(chat_id=chat_id),
                (f"{name}ListMessages", chat_id, 0),
            ),
            (
                "ListPendingActions",
                pb.ListPendingActionsRequest(),
                (f"{name}ListPendingActions", "", []),
            ),
        ]
        for method, request, asked in lists:
            request.page_token = old_token(key, asked)
            refusal = await served.refused(method, request)
            assert (method, refusal.reason, refusal.fields) == (
                method,
                "INVALID_FIELD",
                ["page_token"],
            )


async def test_a_token_of_another_owner_is_refused(served: Served) -> None:
    """Owners see only their own chats; a token does not change that."""
    key, _ = await served.another_key("ann")
    page = await first_page(served)
    request = pb.ListChatsRequest(page_size=1, page_token=page.next_page_token)
    refusal = await served.refused("ListChats", request, key)
    assert refusal.fields == ["page_token"]


async def test_a_bad_token_tells_nothing_of_a_strangers_chat(served: Served) -> None:
    """The chat of another owner is not found, whatever else is wrong with the request."""
    key, _ = await served.another_key("ann")
    created = await served.call("CreateChat", pb.CreateChatRequest())
    request = pb.ListMessagesRequest(chat_id=created.chat.chat_id, page_token="forged")
    assert (await served.refused("ListMessages", request, key)).reason == "CHAT_NOT_FOUND"


async def test_a_token_works_after_a_restart(tmp_path: Path) -> None:
    """The secret is the database's, not the process's."""
    async with serving(tmp_path) as served:
        page = await first_page(served)
    async with serving(tmp_path) as again:
        request = pb.ListChatsRequest(page_token=page.next_page_token)
        assert [it.title for it in (await again.call("ListChats", request)).chats] == ["older"]


@asynccontextmanager
async def two_servers(folder: Path, url: str) -> AsyncIterator[tuple[Served, Served]]:
    """Run two servers of one database, each with a home and keys of its own."""
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(
                serving(folder / "one", database_url=url, migrate=True)
            ),
            await stack.enter_async_context(serving(folder / "two", database_url=url)),
        )


async def test_a_token_works_on_another_server_of_the_database(
    tmp_path: Path, postgres_url: str
) -> None:
    """Pages may come from any replica, and a forged token is refused by each."""
    async with two_servers(tmp_path, postgres_url) as (one, two):
        page = await first_page(one)
        request = pb.ListChatsRequest(page_token=page.next_page_token)
        found = await two.chats.ListChats(request, metadata=bearer(one.key))
        assert [it.title for it in found.chats] == ["older"]
        asked: object = ("chatd.v1.ChatService/ListChats", False, [], [])
        request = pb.ListChatsRequest(page_token=old_token("1", asked))
        for served in (one, two):
            refusal = await refused(lambda it=served: it.call("ListChats", request))  # type: ignore[misc]  # bound per turn
            assert refusal.fields == ["page_token"]
