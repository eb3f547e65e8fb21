"""Which address, key, words and limits a model's name means: every provider of the directory."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from headrace.core.call import Message, Request
from headrace.core.digest import digest_of
from headrace.core.errors import HeadraceError, MissingKey, UsageError
from headrace.core.model import Model
from headrace.endpoints import endpoint_of, function_endpoint
from headrace.provider.aio import AioHttp
from headrace.provider.directory import PROVIDERS
from headrace.task.work import Map

KEY = "sk-0123456789abcdef"
HOSTED = [name for name, row in PROVIDERS.items() if row.needs_key and row.base_url]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Mapping[str, str]]]:
    """What would go over the wire: every post is answered by a 500."""
    posts: list[tuple[str, Any, Mapping[str, str]]] = []

    async def post(
        _self: AioHttp, url: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        posts.append((url, msgspec.json.decode(body), headers))
        return 500, {}, b"{}"

    monkeypatch.setattr(AioHttp, "post", post)
    return posts


def ask(model: Model, environ: Mapping[str, str]) -> None:
    endpoint = endpoint_of(model, environ)
    request = Request(
        digest_of(1), model=endpoint.model, messages=(Message("user", "q"),), params={endpoint.max_tokens: 7}
    )
    with pytest.raises(HeadraceError):
        asyncio.run(endpoint.call(request))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTED)
def test_a_hosted_provider_is_asked_at_its_address_with_its_key(name: str, sent: list[Any]) -> None:
    """The first of its variables that is set; the key is in one header and nowhere else."""
    row = PROVIDERS[name]
    for variable in row.keys:
        ask(Model(f"{name}:some/model"), {variable: KEY + "\n"})
        url, body, headers = sent[-1]
        assert url.startswith(row.base_url + "/")
        assert [header for header, value in headers.items() if KEY in value] == [row.key_header]
        assert KEY not in url + str(body)
        assert "7" in str(body)
    with pytest.raises(MissingKey, match=name) as missing:
        endpoint_of(Model(f"{name}:some/model"), {})
    assert all(variable in str(missing.value) for variable in row.keys)


@pytest.mark.parametrize("name", [name for name, row in PROVIDERS.items() if not row.needs_key])
def test_a_server_on_this_machine_needs_no_key(name: str, sent: list[Any]) -> None:
    """It is asked at its usual port, carefully at first."""
    ask(Model(f"{name}:m"), {})
    url, _, headers = sent[-1]
    assert url.startswith("http://127.0.0.1:")
    assert "Authorization" not in headers
    assert endpoint_of(Model(f"{name}:m"), {}).account.start == 4


def test_another_address_is_given_or_set(sent: list[Any]) -> None:
    """A base URL goes before the environment, and that before the provider's own; a server elsewhere needs no key."""
    environ = {"OPENAI_BASE_URL": "http://gateway.example/v1/"}
    ask(Model("openai:m"), environ)
    assert sent[-1][0] == "http://gateway.example/v1/chat/completions"
    ask(Model("openai:m", base_url="https://other.example/v1"), environ)
    assert sent[-1][0] == "https://other.example/v1/chat/completions"
    with pytest.raises(UsageError, match="no http:// or https:// address"):
        endpoint_of(Model("openai:m"), {"OPENAI_BASE_URL": "gateway"})


def test_what_the_own_server_of_openai_wants(sent: list[Any]) -> None:
    """Its word for the maximum output, and its way to count; other servers get the older word."""
    assert endpoint_of(Model("openai:m", api_key=KEY), {}).max_tokens == "max_completion_tokens"
    assert endpoint_of(Model("openai:m", api_key=KEY), {}).charge.at == "admission"
    near = endpoint_of(Model("openai:m", base_url="http://127.0.0.1:1/v1"), {})
    assert (near.max_tokens, near.charge.at, near.account.start) == ("max_tokens", "usage", 4)


def test_both_apis_of_openai_share_one_account() -> None:
    """Limits are the account's, whichever way it is asked; answers are not shared."""
    chat, responses = (endpoint_of(Model(f"{name}:m", api_key=KEY), {}) for name in ("openai", "openai-responses"))
    assert chat.account.name == responses.account.name
    assert chat.identity != responses.identity
    assert KEY not in chat.account.name


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/openai/v1/chat/completions"),
        ({"OPENAI_API_VERSION": "2024-10-21"}, "/openai/deployments/mine/chat/completions?api-version=2024-10-21"),
    ],
)
def test_azure_is_asked_by_deployment(environ: dict[str, str], path: str, sent: list[Any]) -> None:
    """At the resource's endpoint, by the API version where one is set; without an endpoint it says so."""
    there = {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/", "AZURE_OPENAI_API_KEY": KEY, **environ}
    ask(Model("azure:mine"), there)
    assert sent[-1][0] == f"https://res.openai.azure.com{path}"
    assert sent[-1][2]["api-key"] == KEY
    with pytest.raises(UsageError, match="AZURE_OPENAI_ENDPOINT"):
        endpoint_of(Model("azure:mine"), {"AZURE_OPENAI_API_KEY": KEY})
    with pytest.raises(MissingKey, match="AZURE_OPENAI_API_KEY"):
        endpoint_of(Model("azure:mine"), {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/"})


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_the_address_of_azure_is_taken_as_it_is_shown(end: str, sent: list[Any]) -> None:
    """The portal shows it with the path that the dialect says anyway; all spellings are one place, with one memory."""
    model = Model("azure:mine", base_url=f"https://res.openai.azure.com{end}", api_key=KEY)
    ask(model, {})
    assert sent[-1][0] == "https://res.openai.azure.com/openai/v1/chat/completions"
    assert endpoint_of(model, {}).identity == ("azure", "https://res.openai.azure.com")


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_of_anthropic_with_and_without_its_version(end: str, sent: list[Any]) -> None:
    """Both are written; a proxy's path stays."""
    ask(Model("anthropic:m", base_url=f"https://api.anthropic.com{end}", api_key=KEY), {})
    assert sent[-1][0] == "https://api.anthropic.com/v1/messages"
    ask(Model("anthropic:m"), {"ANTHROPIC_BASE_URL": f"https://proxy.example/claude{end}"})
    assert sent[-1][0] == "https://proxy.example/claude/v1/messages"
    with pytest.raises(MissingKey):
        endpoint_of(Model("anthropic:m", base_url=f"https://api.anthropic.com{end}"), {})


def test_a_server_here_may_be_named_without_its_version(sent: list[Any]) -> None:
    """As Ollama's own address is; a path that is given stays."""
    for url in ("http://10.0.0.7:11434", "http://10.0.0.7:11434/", "http://10.0.0.7:11434/v1"):
        ask(Model("ollama:m"), {"OLLAMA_BASE_URL": url})
        assert sent[-1][0] == "http://10.0.0.7:11434/v1/chat/completions"
    ask(Model("vllm:m", base_url="http://10.0.0.7:8000/proxy/v3"), {})
    assert sent[-1][0] == "http://10.0.0.7:8000/proxy/v3/chat/completions"


def test_somebody_elses_responses(sent: list[Any]) -> None:
    """They are asked in Responses, and need no key."""
    ask(Model("openai-responses:m", base_url="http://127.0.0.1:1/v1"), {})
    url, body, headers = sent[-1]
    assert url == "http://127.0.0.1:1/v1/responses"
    assert body["input"] == [{"role": "user", "content": "q"}]
    assert "Authorization" not in headers


def test_a_token_in_a_header_is_a_key(sent: list[Any]) -> None:
    """Azure takes Entra's tokens as a bearer's, and Anthropic its own."""
    bearer = {"Authorization": f"Bearer {KEY}"}
    there = {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com"}
    for spec, environ in (("azure:m", there), ("anthropic:m", {}), ("openai:m", {}), ("gemini:m", {"X": ""})):
        ask(Model(spec, headers=bearer), environ)
        assert sent[-1][2]["Authorization"] == f"Bearer {KEY}"


def test_a_key_where_none_is_needed_is_sent(sent: list[Any]) -> None:
    """A server here that asks for one gets it."""
    ask(Model("ollama:m", api_key=KEY), {})
    assert sent[-1][2]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_asks_nothing_needs_no_key(name: str) -> None:
    """As --show-prompt does."""
    environ = {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com"}
    assert endpoint_of(Model(f"{name}:m"), environ, to_call=False).model == "m"


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_function_shares_the_limits_of_a_model(name: str) -> None:
    """The account is the one that asking the model has, with its key; the function itself needs none."""
    environ = {"AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com"}
    assert function_endpoint(Map(str, endpoint=f"{name}:m"), environ).account.name
    with_key = environ | dict.fromkeys(PROVIDERS[name].keys, KEY)
    shared = function_endpoint(Map(str, endpoint=f"{name}:m"), with_key).account.name
    assert shared == endpoint_of(Model(f"{name}:m"), with_key).account.name


def test_names_that_are_none() -> None:
    """A name without a provider, an unknown one, one without a name, a key that cannot be sent."""
    with pytest.raises(UsageError, match="openai:gpt-5-nano"):
        Model("gpt-5-nano")
    with pytest.raises(UsageError, match=r"no provider 'opnai'.*anthropic"):
        endpoint_of(Model("opnai:gpt-5-nano"), {})
    with pytest.raises(UsageError, match="has no name"):
        Model("anthropic:")
    with pytest.raises(UsageError, match="holds a character"):
        endpoint_of(Model("groq:m"), {"GROQ_API_KEY": "sk-\nx"})


def test_every_row_is_whole() -> None:
    """An address without a slash at its end, a title, and variables that are the provider's own."""
    for name, row in PROVIDERS.items():
        assert row.title, name
        assert not row.base_url.endswith("/"), name
        assert row.keys or not row.needs_key, name
        assert row.means, name
        assert row.family in (*PROVIDERS, ""), name
