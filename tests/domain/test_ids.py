"""Ids are UUIDv7, and a transition's own are derived: pure, and never twice."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from chatd_server.domain.ids import ChatId, derived_uuid, is_uuid, new_uuid

MOMENTS = st.integers(0, (1 << 48) * 1000 - 1)
CHAT = ChatId("019b76da-a800-7c1f-bc0f-20f38a5342fa")


@given(MOMENTS)
def test_an_id_is_a_version_7_uuid_of_its_moment(now: int) -> None:
    """The first 48 bits are the milliseconds, then version and variant as the RFC says."""
    for text in (new_uuid(now), derived_uuid(now, CHAT, 1, 0)):
        value = UUID(text)
        assert is_uuid(text)
        assert value.version == 7
        assert value.int >> 80 == now // 1000


@given(
    st.tuples(st.integers(0, 1 << 40), st.integers(-2, 1000)),
    st.tuples(st.integers(0, 1 << 40), st.integers(-2, 1000)),
)
def test_derived_ids_differ_exactly_when_their_places_do(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    """The same transition has the same ids again; another one has others."""
    ids = derived_uuid(5, CHAT, *one), derived_uuid(5, CHAT, *other)
    assert (ids[0] == ids[1]) == (one == other)


def test_derived_ids_of_two_chats_differ() -> None:
    """The same place in another chat is another id."""
    other = ChatId("019b76da-a800-7571-9b58-35ea58251cdd")
    assert derived_uuid(5, CHAT, 1, 0) != derived_uuid(5, other, 1, 0)


def test_what_is_no_canonical_uuid_is_none() -> None:
    """Capitals and braces are other texts for the same number, and no ids of ours."""
    assert is_uuid(CHAT)
    assert not any(map(is_uuid, (CHAT.upper(), f"{{{CHAT}}}", CHAT[:-1], "nope", "")))
