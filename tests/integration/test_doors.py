"""A door for each dialect: the official SDKs talk to the simulated provider, and so does headrace, with the same outcome."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anthropic
import msgspec
import openai
import pydantic
import pytest
from google import genai
from google.genai import types

import headrace as hr
from headrace.core.event import CallEnded, Event
from simulator import Simulator, simulator

KEY = "sk-simulated-0123456789"
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2, max_length=30)
    count: int = pydantic.Field(ge=1, le=9)


class Loose(pydantic.BaseModel):
    """Without bounds, which one provider does not enforce."""

    category: Literal["short", "long"]
    tags: list[str]


class Insight(pydantic.BaseModel):
    """What a call was about."""

    category: Literal["short", "long"]
    score: float = pydantic.Field(ge=0, le=1)
    tags: list[str] = pydantic.Field(max_length=3)
    parts: list[Part]
    note: str | None = None


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["a", "b"]}, "n": {"type": "integer"}},
    "required": ["label", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with simulator("--api-key", KEY) as running:
        yield running


def sdk_openai(server: Simulator) -> Any:
    return openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)


def sdk_azure(server: Simulator) -> Any:
    return openai.AzureOpenAI(
        azure_endpoint=server.origin, api_key=KEY, api_version="2024-10-21", max_retries=0, azure_deployment="mine"
    )


def sdk_anthropic(server: Simulator, key: str = KEY) -> Any:
    return anthropic.Anthropic(base_url=server.origin, api_key=key, max_retries=0)


def sdk_gemini(server: Simulator, key: str = KEY) -> Any:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=server.origin, api_version="v1beta"))


# The official SDKs.


def test_responses_with_the_official_sdk(server: Simulator) -> None:
    """Text, a type, a refusal of what a strict schema may not hold, and what was cut off."""
    with sdk_openai(server) as client:
        answer = client.responses.create(model="m", input="Hello", instructions="Be brief.")
        assert answer.status == "completed"
        assert answer.output_text.startswith("simulated answer")
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
        form: Any = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
        typed = client.responses.create(model="m", input="Hello", text=form)
        assert set(msgspec.json.decode(typed.output_text)) == {"label", "n"}
        cut = client.responses.create(model="m", input="Hello", max_output_tokens=1)
        assert cut.incomplete_details is not None
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        with pytest.raises(openai.BadRequestError, match="not permitted"):
            strict = {**SCHEMA, "properties": {**SCHEMA["properties"], "n": {"type": "string", "minLength": 3}}}
            client.responses.create(
                model="m",
                input="x",
                text={"format": {**form["format"], "schema": strict}},
            )
    with (
        openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.responses.create(model="m", input="x")


def test_azure_with_the_official_sdk(server: Simulator) -> None:
    """By deployment, with the key in its own header."""
    with sdk_azure(server) as client:
        answer = client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "Hello"}])
    assert answer.model == "mine"
    assert (answer.choices[0].message.content or "").startswith("simulated answer")


def test_anthropic_with_the_official_sdk(server: Simulator) -> None:
    """Text, both ways to a type, what it refuses, and errors of its own classes."""
    ask: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    with sdk_anthropic(server) as client:
        answer = client.messages.create(**ask, system="Be brief.")
        assert answer.stop_reason == "end_turn"
        assert answer.content[0].text.startswith("simulated answer")
        typed = client.messages.create(**ask, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
        assert set(msgspec.json.decode(typed.content[0].text)) == {"label", "n"}
        tool: Any = {"name": "answer", "input_schema": SCHEMA}
        called = client.messages.create(**ask, tools=[tool], tool_choice={"type": "tool", "name": "answer"})
        assert called.stop_reason == "tool_use"
        assert set(called.content[0].input) == {"label", "n"}
        parsed = client.messages.parse(**{**ask, "max_tokens": 2000}, output_format=Loose)
        assert isinstance(parsed.parsed_output, Loose)
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            client.messages.create(**{**ask, "max_tokens": 0})
    with sdk_anthropic(server, "wrong") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**ask)


def test_gemini_with_the_official_sdk(server: Simulator) -> None:
    """Text, both ways to a schema, a picture, and errors of its own class."""
    with sdk_gemini(server) as client:
        _asked_by_gemini(client)
    with sdk_gemini(server, "wrong") as client, pytest.raises(genai.errors.ClientError) as refused:
        client.models.generate_content(model="m", contents="x")
    assert refused.value.code == 401


def _asked_by_gemini(client: Any) -> None:
    answer = client.models.generate_content(model="m", contents="Hello")
    assert (answer.text or "").startswith("simulated answer")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count
    for config in (
        types.GenerateContentConfig(response_mime_type="application/json", response_schema=Part),
        types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA),
    ):
        typed = client.models.generate_content(model="m", contents="Hello", config=config)
        assert set(msgspec.json.decode(typed.text or "")) in ({"label", "n"}, {"name", "count"})
    seen = client.models.generate_content(
        model="m", contents=["What is it?", types.Part.from_bytes(data=PNG, mime_type="image/png")]
    )
    assert seen.usage_metadata is not None
    assert (seen.usage_metadata.prompt_token_count or 0) > 700


# headrace at the same doors.


DIALECTS = ("openai", "openai-responses", "azure", "anthropic", "gemini", "groq", "mistral", "deepseek", "ollama")


def model_at(server: Simulator, name: str, **more: Any) -> hr.Model:
    base = {"gemini": f"{server.origin}/v1beta", "anthropic": server.origin, "azure": server.origin}
    return hr.Model(f"{name}:m", base_url=base.get(name, server.url), api_key=more.pop("api_key", KEY), **more)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_typed_values(name: str, server: Simulator) -> None:
    """A nested model with bounds, through the provider's own way to a type, with true counts of tokens."""
    events: list[Event] = []
    kind = Loose if name == "anthropic" else Insight
    ask = hr.Ask("Read this: {text}", system="You read calls.", returns=kind, model=model_at(server, name))
    run = hr.run(ask, [{"text": f"call {n}"} for n in range(20)], on_event=events.append)
    assert (run.ok, run.failed) == (20, 0), next(iter(run)).error
    for outcome in run:
        assert isinstance(outcome.value, kind)
        assert outcome.attempts == 1
        assert (outcome.input_tokens or 0) > 5
        assert (outcome.output_tokens or 0) > 0
    assert {event.error for event in events if isinstance(event, CallEnded)} == {""}


@pytest.mark.usefixtures("in_folder")
def test_what_a_provider_does_not_enforce_is_checked_here(server: Simulator) -> None:
    """Anthropic takes no bounds: an answer outside of them is asked again once, then it is an error that says so."""
    run = hr.run(hr.Ask("Read {item}", returns=Insight, model=model_at(server, "anthropic")), ["one", "two"])
    for outcome in run:
        assert outcome.error is not None
        assert (outcome.error.kind, outcome.attempts) == ("answer", 2)
        assert "less than or equal to" in outcome.error.message


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_text_and_tells_what_was_cut(name: str, server: Simulator) -> None:
    """Without a type the answer is the text; an answer that is cut off is told apart."""
    model = model_at(server, name)
    run = hr.run(hr.Ask("Say {item}", model=model), ["one", "two"])
    assert all(str(outcome.value).startswith("simulated answer") for outcome in run)
    cut = hr.run(hr.Ask("Say {item}", model=model, returns="a: str, b: str", max_tokens=1), ["one", "two"])
    assert [outcome.error.kind for outcome in cut if outcome.error] == ["truncated"] * 2


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "ollama"])
def test_a_wrong_key_ends_the_run(name: str, server: Simulator) -> None:
    """As credentials, in the provider's own shape of an error, and the key is not in it."""
    wrong = "sk-wrong-0123456789"
    with pytest.raises(hr.HeadraceError) as raised:
        hr.run(hr.Ask("Say {item}", model=model_at(server, name, api_key=wrong)), ["one"])
    assert raised.value.kind == "credentials"
    assert wrong not in str(raised.value)


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini", "azure"])
def test_pictures_are_seen_at_every_door(name: str, server: Simulator, in_folder: Path) -> None:
    """A file and an address, as each provider takes them: the same picture gives the same answer."""
    (in_folder / "1.png").write_bytes(PNG)
    whole = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    ask = hr.Ask("What is it?", model=model_at(server, name), images=("photo",), returns="n: int")
    run = hr.run(ask, [{"photo": "1.png"}, {"photo": whole}, {"photo": "https://pictures.example/1.png"}])
    assert run.ok == 3
    first, again, far = run
    assert first.value == again.value != far.value
    assert all((outcome.input_tokens or 0) > 700 for outcome in run)


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini", "azure"])
def test_limits_and_faults_are_understood_at_every_door(name: str) -> None:
    """In each provider's own headers and bodies: no item is lost, and refusals are waited out."""
    events: list[Event] = []
    words = (
        "--limit",
        "requests=40/1",
        "--faults",
        "500=0.02,429=0.02,529=0.02,cut=0.02,malformed=0.02",
        "--seed",
        "3",
    )
    with simulator(*words) as server:
        ask = hr.Ask("Say {item}", model=model_at(server, name), returns="n: int")
        run = hr.run(ask, [f"t{n}" for n in range(80)], on_event=events.append)
    assert (run.ok, run.failed) == (80, 0)
    errors = {event.error for event in events if isinstance(event, CallEnded)}
    assert len(errors) > 1
    assert errors <= {"", "throttled", "transient", "overloaded"}


@pytest.mark.usefixtures("in_folder")
def test_the_prompt_cache_of_anthropic_is_warmed_first(server: Simulator) -> None:
    """With a long prefix the first call goes alone, and all others read what it wrote; with a short one all go."""
    long = hr.Ask("Read {text}", system="You are careful. " * 400, model=model_at(server, "anthropic"))
    seen: list[Event] = []
    run = hr.run(long, [{"text": f"c{n}"} for n in range(30)], on_event=seen.append)
    assert run.ok == 30
    first = next(event.at_s for event in seen if isinstance(event, CallEnded))
    starts = sorted(event.at_s for event in seen if type(event).__name__ == "CallStarted")
    assert starts[0] < first <= starts[1]
    short = hr.Ask("Read {text}", system="You are careful.", model=model_at(server, "anthropic"))
    seen.clear()
    hr.run(short, [{"text": f"c{n}"} for n in range(30)], on_event=seen.append)
    first = next(event.at_s for event in seen if isinstance(event, CallEnded))
    starts = sorted(event.at_s for event in seen if type(event).__name__ == "CallStarted")
    assert starts[1] < first


@pytest.mark.usefixtures("in_folder")
def test_a_means_that_a_model_lacks_is_replaced() -> None:
    """A server that knows no response_format is asked with the schema in the prompt, after one refusal."""
    from acceptance.endpoint import Asked, completion, endpoint

    refused = 400, '{"error": {"message": "Unknown parameter: \'response_format\'", "type": "invalid_request_error"}}'

    def answer(asked: Asked) -> tuple[int, str]:
        return refused if "response_format" in asked.body else completion('{"n": 3}')

    with endpoint(answer) as server:
        model = hr.Model("openai:m", base_url=f"{server.url}/v1")
        run = hr.run(hr.Ask("Count {item}", returns="n: int", model=model), ["x", "y"], limits=hr.Limits(concurrency=1))
        bodies = [asked.body for asked in server.asked]
    assert [outcome.value for outcome in run] == [{"n": 3}] * 2
    kinds = [(body.get("response_format") or {}).get("type") for body in bodies]
    assert kinds == ["json_schema", "json_object", None, None]
    assert '"n"' in bodies[-1]["messages"][0]["content"]


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini"])
def test_tokens_are_estimated_within_a_tenth_after_fifty_calls(name: str, server: Simulator) -> None:
    """What is reserved before a call against what the provider counted, for items of any length."""
    from headrace.core.call import Message, Reply, Request
    from headrace.core.digest import digest_of
    from headrace.endpoints import endpoint_of
    from headrace.flow.estimate import Estimator, size_of

    endpoint = endpoint_of(model_at(server, name), {})
    estimator = Estimator(endpoint.charge)

    async def main() -> list[tuple[float, float]]:
        seen = []
        for n in range(80):
            text = "Some words of a call. " * (1 + (n * 37) % 60)
            request = Request(digest_of(n), model="m", messages=(Message("system", "Read."), Message("user", text)))
            size = size_of(request)
            cost = estimator.cost(size)
            reply: Reply = await endpoint.call(request)
            estimator.learn(size, reply.input_tokens, reply.output_tokens)
            seen.append((cost.input_tokens, float(reply.input_tokens or 0)))
        await endpoint.close()
        return seen

    for estimated, counted in asyncio.run(main())[50:]:
        assert abs(estimated - counted) <= 0.1 * counted + 1
