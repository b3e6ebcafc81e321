"""JSON text is judged by RFC 8259, and not by what one parser can convert."""

import pytest

from chatd_server.domain.json_text import is_json, json_fault, parse

LONG = "9" * 4301
DEEP = 20_000


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1.5e+300",
        ' {"\\ud800": null }',
        "[1e400]",
        LONG,
        f"-{LONG}",
        f"[{LONG}.{LONG}]",
        f"1e{LONG}",
    ],
    ids=range(8),
)
def test_json_is_taken_whatever_its_numbers(text: str) -> None:
    """A number has no bound, an escape no meaning here."""
    assert json_fault(text) == ""


@pytest.mark.parametrize(
    "text, word",
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("nan", "not valid JSON"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("01", "not valid JSON"),
        ("1 2", "not valid JSON"),
        ("'a'", "not valid JSON"),
        ("1e", "not valid JSON"),
        ('"\x00"', "not valid JSON"),
        ("[" * DEEP + "]" * DEEP, "nested too deeply"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "nested too deeply"),
    ],
    ids=range(12),
)
def test_what_is_wrong_is_said(text: str, word: str) -> None:
    """Broken text and text that is too deep are different mistakes."""
    assert word in json_fault(text)


def test_a_long_number_keeps_its_kind_and_its_sign() -> None:
    """That is all that a look at a schema asks for."""
    found = parse(f'{{"low": -{LONG}, "high": {LONG}}}')
    assert isinstance(found, dict)
    assert isinstance(found["low"], int)
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize(
    "text",
    [
        *("null", "1", '"\\ud800"', "[1e400, 12345678901234567890]", ' {"a": 1 }', LONG),
        *('"\\\\ud800"', '"\\\\\\ud800"', '"\\uDFFF\\ud83d\\ude00"'),
    ],
    ids=range(9),
)
def test_json_is_recognised_without_making_a_value(text: str) -> None:
    """Escapes of lone surrogates too, which the fast decoder refuses."""
    assert is_json(text)


@pytest.mark.parametrize(
    "text", ['"\\ud80"', '"\\ud800', '[NaN, "\\ud800"]', '"\\\\\\"'], ids=range(4)
)
def test_what_looks_like_an_escape_is_no_excuse(text: str) -> None:
    """The rest of the text has to be JSON all the same."""
    assert not is_json(text)
    assert json_fault(text)
