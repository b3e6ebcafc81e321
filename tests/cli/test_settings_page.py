"""The page of settings is up to date."""

from chatd_server.cli.exits import MEANINGS, Exit
from scripts.settings_page import TARGET, page


def test_the_page_of_settings_is_fresh() -> None:
    """docs/settings.md is written by `make docs`."""
    assert TARGET.read_text(encoding="utf-8") == page()


def test_every_exit_code_has_a_meaning() -> None:
    """Scripts rely on them."""
    assert set(MEANINGS) == set(Exit)
