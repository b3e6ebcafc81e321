"""Models by name: which exist, when adapters are imported, and the effect of a missing key."""

import subprocess
import sys
from pathlib import Path

import pytest

from chatd_server.domain.answer_parts import Finished
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.domain.refusal import ModelNotFound
from chatd_server.providers.anthropic import AnthropicModel
from chatd_server.providers.registry import MODELS_HELD_MAX, Adapter, ModelRegistry
from chatd_server.providers.settings import ProviderSettings
from tests.kit.clock import ManualClock
from tests.providers.sandbox_kit import request
from tests.providers.vendor import VendorModel


def registry(**settings: ProviderSettings) -> ModelRegistry:
    """Return the real adapters with these settings."""
    return ModelRegistry(settings, ManualClock())


def vendor() -> ModelRegistry:
    """Return a registry that knows only the vendor of this test."""
    adapters = {"vendor": Adapter("tests.providers.vendor", "VendorProvider", "one")}
    settings = {"vendor": ProviderSettings(api_key="secret")}
    return ModelRegistry(settings, ManualClock(), adapters)


def model_of(models: ModelRegistry, name: str) -> VendorModel:
    """Return a model of the vendor of this test."""
    model = models.get(f"vendor/{name}")
    assert isinstance(model, VendorModel)
    return model


def test_a_model_is_made_once_with_its_settings() -> None:
    """All chats with this model share it."""
    models = vendor()

    model = model_of(models, "some/model:7")

    assert (model.model, model.vendor.settings.api_key) == ("some/model:7", "secret")
    assert models.get("vendor/some/model:7") is model


def test_models_of_a_vendor_share_its_connections() -> None:
    """A vendor has one connection pool for all its models."""
    models = vendor()

    assert model_of(models, "a").vendor is model_of(models, "b").vendor


async def test_models_of_anthropic_share_its_connections() -> None:
    """Even with real connections."""
    models = registry(anthropic=ProviderSettings(api_key="k"))
    first, second = models.get("anthropic/a"), models.get("anthropic/b")

    assert isinstance(first, AnthropicModel)
    assert isinstance(second, AnthropicModel)
    assert first._transport is second._transport
    await models.close()


async def test_closing_closes_the_connections_of_all_models() -> None:
    """A shutdown leaves nothing open; providers without connections are not called."""
    models, sandbox = vendor(), registry()
    held = [model_of(models, "a"), model_of(models, "b")]
    sandbox.get("sandbox/echo")

    await models.close()
    await sandbox.close()
    await registry().close()

    assert all(model.vendor.is_closed for model in held)


def test_names_of_clients_do_not_pile_up() -> None:
    """Beyond the limit the oldest model is dropped."""
    models = vendor()
    first = models.get("vendor/first")
    for number in range(MODELS_HELD_MAX - 1):
        models.get(f"vendor/{number}")

    assert models.get("vendor/first") is first
    models.get("vendor/last")
    assert models.get("vendor/first") is not first


async def test_a_forgotten_model_closes_nothing_that_another_uses() -> None:
    """It owns nothing: the vendor owns the connections, and closes them."""
    models = vendor()
    forgotten = model_of(models, "first")
    for number in range(MODELS_HELD_MAX):
        models.get(f"vendor/{number}")

    again = model_of(models, "first")
    assert again is not forgotten
    assert again.vendor is forgotten.vendor
    assert not forgotten.vendor.is_closed
    await models.close()
    assert forgotten.vendor.is_closed


async def test_the_sandbox_needs_no_settings() -> None:
    """A fresh server has a model that answers."""
    model = registry().get("sandbox/echo")

    parts = [part async for part in model.conversation().stream(request("!text 1"))]

    assert (model.name, model.provider) == ("sandbox/echo", "sandbox")
    assert isinstance(parts[-1], Finished)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sandbox",
        "sandbox/",
        "/echo",
        "nobody/x",
        "sandbox/other",
        "anthropic/",
        "anthropic/a b",
    ],
)
def test_an_unknown_name_is_refused_with_examples(name: str) -> None:
    """The error shows the form of a name, before anything is written."""
    with pytest.raises(ModelNotFound) as caught:
        registry().get(name)

    (violation,) = caught.value.violations
    assert violation.field == "model"
    assert caught.value.models == ("sandbox/echo",)
    assert "sandbox/echo" in violation.description


def test_examples_are_names_that_can_be_used() -> None:
    """A provider that has no key or is disabled gives no example."""
    off = ProviderSettings(is_enabled=False)

    assert registry().names() == ["sandbox/echo"]
    assert registry(anthropic=ProviderSettings(api_key="k")).names()[1].startswith("anthropic/")
    with pytest.raises(ModelNotFound, match="no provider is enabled"):
        registry(sandbox=off).get("nobody/x")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (ProviderSettings(), ErrorKind.MISSING_KEY),
        (ProviderSettings(is_enabled=False, api_key="k"), ErrorKind.PROVIDER_DISABLED),
    ],
    ids=["missing key", "disabled"],
)
async def test_a_provider_that_cannot_be_used_fails_when_it_is_called(
    settings: ProviderSettings, kind: ErrorKind
) -> None:
    """A chat that uses it stays readable, and its turn reports the reason."""
    model = registry(anthropic=settings).get("anthropic/claude-x")

    with pytest.raises(ModelFailure) as caught:
        await anext(aiter(model.conversation().stream(request("hello"))))

    assert (model.name, model.provider) == ("anthropic/claude-x", "anthropic")
    error = caught.value.error
    assert (error.kind, error.provider, error.retryable) == (kind, "anthropic", False)


def test_settings_do_not_show_secrets() -> None:
    """A log line or a traceback with the settings leaks nothing."""
    shown = repr(ProviderSettings(api_key="sk-1", base_url="https://me:sk-2@host"))

    assert "sk-" not in shown


def test_an_adapter_is_imported_when_its_model_is_asked_for() -> None:
    """A server with only the sandbox never loads an HTTP library."""
    program = (
        "import sys\n"
        "from chatd_server.clock import RealClock\n"
        "from chatd_server.providers.registry import ModelRegistry\n"
        "models = ModelRegistry({}, RealClock())\n"
        "assert 'chatd_server.providers.sandbox' not in sys.modules\n"
        "models.get('sandbox/echo'), models.get('anthropic/x')\n"
        "assert 'chatd_server.providers.sandbox' in sys.modules\n"
        "print(sorted({'httpx', 'aiohttp', 'chatd_server.providers.anthropic'} & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (run.stdout, run.stderr) == ("[]\n", "")


def test_warming_up_imports_what_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So imports of the first chat do not block the loop; unusable adapters are not imported."""
    monkeypatch.syspath_prepend(tmp_path)
    names = ("warmed_adapter", "keyless_adapter", "disabled_adapter")
    for name in names:
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    adapters = {
        name: Adapter(name, "make", "example", needs_key=name == "keyless_adapter")
        for name in names
    }
    settings = {"disabled_adapter": ProviderSettings(is_enabled=False)}
    ModelRegistry(settings, ManualClock(), adapters).warm_up()
    assert [name for name in names if sys.modules.pop(name, None)] == ["warmed_adapter"]
