"""A feature is a file or folder, and one line in a register: neither stands without the other."""

import re

import msgspec
import pytest

from chatd_server.app.settings import provider_settings
from chatd_server.config.load import load
from chatd_server.config.settings import Config
from chatd_server.domain.machine.table import TABLE
from chatd_server.observe import spans
from chatd_server.observe.spans import Fact
from chatd_server.providers.registry import ADAPTERS
from chatd_server.providers.settings import ProviderSettings
from chatd_server.store.shared.schema import metadata
from chatd_server.tools.builtin import source
from chatd_server.tools.registry import SOURCES
from tests.shape.tree import ROOT, sources

SERVER = ROOT / "server" / "chatd_server"


def folders(*path: str) -> set[str]:
    """Return the names of the folders of code in a folder."""
    return {it.parent.name for it in SERVER.joinpath(*path).glob("*/__init__.py")}


def files(*path: str) -> set[str]:
    """Return the names of the files of code in a folder, without their ending."""
    return {it.stem for it in SERVER.joinpath(*path).glob("*.py")} - {"__init__"}


def texts_without(name: str) -> str:
    """Return the code of the server, without the files of this name."""
    paths = (it for it in sources("server/chatd_server") if it.name != name)
    return "".join(it.read_text(encoding="utf-8") for it in paths)


def test_a_folder_of_providers_is_a_vendor_that_is_registered() -> None:
    """`http` is what vendors share."""
    assert folders("providers") - {"http"} == set(ADAPTERS)
    assert all(it.module == f"chatd_server.providers.{name}" for name, it in ADAPTERS.items())


@pytest.mark.parametrize("vendor", [name for name, it in ADAPTERS.items() if it.needs_key])
def test_a_vendor_is_given_the_settings_of_its_name(vendor: str) -> None:
    """Else its models say that the key is missing, which somebody has set. No page shows it."""
    loaded = load({f"{vendor}_api_key": "k", f"{vendor}_base_url": "http://localhost"}, {})
    wanted = ProviderSettings(api_key="k", base_url="http://localhost")
    assert provider_settings(loaded.config)[vendor] == wanted
    shown = {it.name: it.value for it in loaded.settings}
    assert shown[f"{vendor}_api_key"] == "(set)"


def test_a_folder_of_tools_is_a_source_that_is_registered() -> None:
    """A source that is not in the tuple has no tools for any chat."""
    assert folders("tools") == {it.__module__.split(".")[2] for it in SOURCES}


def test_a_file_of_a_built_in_tool_is_used_by_their_source() -> None:
    """A tool that is not in the source is offered to no model."""
    used = {getattr(it, "__module__", "") for it in vars(source).values()}
    names = {it.removeprefix(f"{source.__package__}.") for it in used}
    assert files("tools", "builtin") <= names


def test_a_file_of_rules_is_used_by_the_table() -> None:
    """A rule without a row is never played."""
    used = {row.rule.__module__.rpartition(".")[2] for row in TABLE}
    assert files("domain", "machine", "rules") == used


def test_a_section_of_the_settings_has_a_file_of_its_name() -> None:
    """Who looks for a setting looks for its section."""
    assert set(Config.__struct_fields__) <= files("config")


def test_a_fact_of_the_log_is_noted_somewhere() -> None:
    """A name that nobody notes is a promise that the log does not keep."""
    code = texts_without("spans.py")
    facts = {it for it in vars(spans).values() if isinstance(it, type) and issubclass(it, Fact)}
    names = {it.__name__ for it in facts - {Fact, spans.Step, spans.Trouble}}
    assert {it for it in names if not re.search(rf"\bspans\.{it}\(", code)} == set()


def test_the_page_of_tables_names_each_table_and_index() -> None:
    """Who adds one says there what it holds, or what it serves."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Tables")[2]
    names = {
        *metadata.tables,
        *(it.name for table in metadata.tables.values() for it in table.indexes),
    }
    assert {it for it in names if f"`{it}`" not in page} == set()


def test_a_setting_is_given_to_somebody() -> None:
    """Providers' settings are read by the names of their vendors."""
    code = texts_without("")
    unread = [
        f"{section.name}.{field}"
        for section in msgspec.structs.fields(Config)
        for field in section.type.__struct_fields__
        if section.name != "providers" and not re.search(rf"\.{section.name}\.{field}\b", code)
    ]
    assert unread == []


PATH = re.compile(r"`((?:[\w-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml))`")
"""A file or a folder between backticks."""
PLACES = (ROOT, SERVER, SERVER / "agent", ROOT / "docs")


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md"])
def test_every_place_that_a_page_names_exists(page: str) -> None:
    """A page that names files lies as soon as one is moved."""
    named = PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    assert named
    missing = [it for it in named if not any((place / it).exists() for place in PLACES)]
    assert not missing
