"""Page tokens: opaque, bound to their list, and refused with words when they are wrong."""

import pytest

from chatd_server.domain.refusal import InvalidRequest
from chatd_server.rpc import page_token

QUERY = ("ListChats", False)


def test_a_token_gives_back_its_key() -> None:
    """What goes in comes out, and only letters that travel in a URL."""
    token = page_token.encode("key/ä:1", QUERY)
    assert page_token.decode(token, QUERY) == "key/ä:1"
    assert token.replace("-", "").replace("_", "").isalnum()


def test_the_end_has_no_token() -> None:
    """An empty token is both: the end, and the beginning."""
    assert page_token.encode(None, QUERY) == ""
    assert page_token.decode("", QUERY) is None


@pytest.mark.parametrize("token", ["!!", "abc", "ä", "bnVsbA", "AAAA", "e30"])
def test_a_token_of_nobody_is_refused(token: str) -> None:
    """Words from elsewhere are no position."""
    with pytest.raises(InvalidRequest, match="page_token"):
        page_token.decode(token, QUERY)


def test_a_token_of_another_list_is_refused() -> None:
    """With other filters the position would mean something else."""
    token = page_token.encode("7", QUERY)
    with pytest.raises(InvalidRequest, match="another list"):
        page_token.decode(token, ("ListChats", True))


@pytest.mark.parametrize(
    "asked, given", [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)]
)
def test_page_sizes_have_a_default_and_a_cap(asked: int, given: int) -> None:
    """0 is the default; more than the cap is the cap."""
    assert page_token.size_of(asked) == given
