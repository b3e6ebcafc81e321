"""What a user imports is listed, exists, and says what it is."""

import inspect

import chatd_client


def test_the_client_exports_what_it_lists() -> None:
    names = chatd_client.__all__
    assert list(names) == sorted(set(names))
    assert not [name for name in names if not hasattr(chatd_client, name)]


def test_every_exported_class_and_function_has_a_docstring() -> None:
    exported = {name: getattr(chatd_client, name) for name in chatd_client.__all__}
    named = {n: v for n, v in exported.items() if inspect.isclass(v) or inspect.isfunction(v)}
    assert not [name for name, value in named.items() if not inspect.getdoc(value)]
