"""The page of states is what the transition table of today gives."""

from chatd_server.domain.machine.table import TABLE
from scripts.states_page import TARGET, page


def test_the_page_of_states_is_fresh() -> None:
    """Whoever changes the table changes the page with it."""
    assert TARGET.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_page_shows_every_row() -> None:
    """Each row says in one line what it does, and the page says it too."""
    shown = page()
    assert all(row.what in shown for row in TABLE)
