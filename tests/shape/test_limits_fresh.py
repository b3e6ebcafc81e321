"""The page of limits says what the code enforces."""

from scripts.limits_page import TARGET, page


def test_the_page_of_limits_is_fresh() -> None:
    """`make docs` was run after the last change of a limit."""
    assert TARGET.read_text(encoding="utf-8") == page()
