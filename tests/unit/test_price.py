"""Prices: as genai-prices counts them, as a file of one's own says, never below what a call came to, and never 0 for
what nobody knows."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.data.mapping import read_mapping
from headrace.endpoints import endpoint_of, function_endpoint
from headrace.task.price import FREE, Price, Rate, bundled, prices_of
from headrace.task.work import Map

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta"
MODELS = [
    (OPENAI, "gpt-4o"),
    (OPENAI, "gpt-4.1-mini"),
    (OPENAI, "gpt-5-nano"),
    (ANTHROPIC, "claude-sonnet-4-5"),
    (ANTHROPIC, "claude-3-5-haiku-latest"),
    (GOOGLE, "gemini-2.5-pro"),
    (GOOGLE, "gemini-2.5-flash"),
    ("https://api.mistral.ai/v1", "mistral-small-latest"),
    ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
    ("https://api.x.ai/v1", "grok-4"),
    ("https://api.perplexity.ai", "sonar-deep-research"),
    ("https://api.perplexity.ai", "sonar-pro"),
]
HEADER = '["openai:m"]\n'


def theirs(url: str, model: str, tokens: dict[str, int], **context: str) -> float:
    usage = genai_prices.Usage(**tokens)
    found = genai_prices.calc_price(
        usage, model, provider_api_url=url, genai_request_timestamp=AT, price_context=context or None
    )
    return float(found.total_price)


def price(url: str, model: str, **more: Any) -> Price:
    found = bundled(model, url, AT, **more).price
    assert found is not None
    return found


def own(text: str, spec: str, *, batch: bool = False) -> Price | None:
    import tomllib

    return prices_of(tomllib.loads(text), "prices.toml").find(spec, batch=batch)


# As genai-prices counts.


@pytest.mark.parametrize(("url", "model"), MODELS, ids=[model for _, model in MODELS])
@pytest.mark.parametrize("cached", [0.0, 0.4, 1.0])
def test_a_call_costs_what_genai_prices_says(url: str, model: str, cached: float) -> None:
    """On both sides of every tier, with input cached or not, to the last digit that a float has."""
    found = price(url, model)
    edges = [rate.above for rate in found.rates[1:]]
    for into in [0, 1, 137, 199_999, *edges, *(edge + 1 for edge in edges), 900_000]:
        for out in (0, 1, 5_000):
            read = int(into * cached)
            told = {"input_tokens": into, "output_tokens": out, "cache_read_tokens": read}
            assert found.usd(into, out, read) == pytest.approx(theirs(url, model, told), rel=1e-12, abs=1e-15)


def test_there_are_tiers_and_discounts_among_them() -> None:
    """The models that are compared have what is hard about prices."""
    found = [price(url, model) for url, model in MODELS]
    assert sum(len(each.rates) > 1 for each in found) >= 2
    assert sum(each.rates[0].cached < each.rates[0].input for each in found) >= 6
    assert any(each.call for each in found)
    assert any(each.rates[0].reasoning != each.rates[0].output for each in found)


def test_cache_writes_and_reasoning_have_prices_of_their_own() -> None:
    """Tokens written into the cache cost more at Anthropic, tokens thought with less at Perplexity."""
    written = {"input_tokens": 9_000, "output_tokens": 70, "cache_read_tokens": 500, "cache_write_tokens": 8_000}
    claude = price(ANTHROPIC, "claude-sonnet-4-5")
    assert claude.usd(9_000, 70, 500, written_tokens=8_000) == pytest.approx(
        theirs(ANTHROPIC, "claude-sonnet-4-5", written)
    )
    assert (claude.usd(9_000, 70, written_tokens=8_000) or 0) > (claude.usd(9_000, 70) or 0)
    url, model = "https://api.perplexity.ai", "sonar-deep-research"
    thought = {"input_tokens": 90, "output_tokens": 700, "output_reasoning_tokens": 600}
    assert price(url, model).usd(90, 700, None, 600) == pytest.approx(theirs(url, model, thought))


@pytest.mark.parametrize("tier", ["flex", "priority", "default"])
def test_a_service_tier_has_its_price(tier: str) -> None:
    """What is sent with a request may choose another price."""
    found = price(OPENAI, "gpt-5", params={"service_tier": tier, "seed": 7})
    told = {"input_tokens": 1_000, "output_tokens": 300}
    assert found.usd(1_000, 300) == pytest.approx(theirs(OPENAI, "gpt-5", told, service_tier=tier))


def test_a_batch_has_its_price() -> None:
    """Half of the usual one, where genai-prices knows it."""
    told = {"input_tokens": 1_000, "output_tokens": 300}
    found = price(OPENAI, "gpt-5", batch=True)
    assert found.usd(1_000, 300) == pytest.approx(theirs(OPENAI, "gpt-5", told, processing="batch"))
    assert (found.usd(1_000, 300) or 0) == pytest.approx((price(OPENAI, "gpt-5").usd(1_000, 300) or 0) / 2)


def test_a_price_that_depends_on_the_hour_is_the_dearest() -> None:
    """DeepSeek is cheaper by night: a run may last through it, so the dear hours count, and that is told."""
    found = [bundled("deepseek-v4-pro", "https://api.deepseek.com", AT.replace(hour=hour)) for hour in range(24)]
    assert len({each.price for each in found}) == 1
    assert "depends on the time of day" in found[0].reason
    of_hours = [
        float(
            genai_prices.calc_price(
                genai_prices.Usage(input_tokens=1000, output_tokens=100),
                "deepseek-v4-pro",
                provider_id="deepseek",
                genai_request_timestamp=AT.replace(hour=hour),
            ).total_price
        )
        for hour in range(24)
    ]
    assert found[0].price is not None
    assert found[0].price.usd(1000, 100) == pytest.approx(max(of_hours))


def test_every_model_there_is_can_be_looked_up() -> None:
    """No entry of genai-prices breaks the look-up; what has no price for text says so."""
    urls = {"openai": OPENAI, "anthropic": ANTHROPIC, "google": GOOGLE, "openrouter": "https://openrouter.ai/api/v1"}
    found = [
        bundled(model.id, urls[provider.id], AT)
        for provider in get_snapshot().providers
        if provider.id in urls
        for model in provider.models
    ]
    assert len(found) > 500
    assert sum(each.price is not None for each in found) > 300
    assert all(each.reason for each in found if each.price is None)


# Unknown is not 0.


@pytest.mark.parametrize(
    ("model", "url", "params"),
    [
        ("a-model-of-nobody", OPENAI, {}),
        ("gpt-5", "https://llm.example.com/v1", {}),
        ("gpt-5", OPENAI, {"service_tier": "scale"}),
        ("text-embedding-3-small", OPENAI, {}),
    ],
    ids=["model", "server", "tier", "no output"],
)
def test_what_is_unknown_is_said(model: str, url: str, params: dict[str, str]) -> None:
    """A model, a server or a tier without a price has none, and a sentence says which and what to do."""
    found = bundled(model, url, AT, params=params)
    assert found.price is None
    assert model in found.reason
    assert "--prices" in found.reason


def test_what_an_answer_does_not_tell_is_unknown() -> None:
    """Without both counts there is no cost, but of what is free."""
    found = price(OPENAI, "gpt-4o")
    assert found.usd(None, 5) is found.usd(5, None) is found.usd(None, None) is found.usd(-1, 5) is None
    assert FREE.usd(None, None) == FREE.usd(1_000, 5) == FREE.worst(1e6, 1e6) == 0.0


def test_an_endpoint_knows_its_price() -> None:
    """By its address: OpenAI's own has one, another server none; what runs here is free; sim: and functions have none."""
    key = {"OPENAI_API_KEY": "sk-0123456789abcdef"}

    def at(spec: str, base_url: str | None = None) -> Any:
        return endpoint_of(Model(spec, base_url=base_url), key, to_call=False)

    assert at("openai:gpt-4o").price.usd(1_000_000, 0) == pytest.approx(2.5)
    assert at("openai-responses:gpt-4o").price == at("openai:gpt-4o").price
    assert at("openai:gpt-4o", "http://127.0.0.1:8000/v1").price is None
    assert at("openai:gpt-4o", "http://127.0.0.1:8000/v1").priced().reason == ""
    assert "is not counted" in at("openai:gpt-4o", "https://llm.example.com/v1").priced().reason
    assert at("local").price.is_free
    assert at("sim:").price is None
    assert function_endpoint(Map(str), {}).price is None


def test_genai_prices_is_loaded_for_who_asks() -> None:
    """Neither the command's help nor a run at another server pays for its import."""
    code = (
        "import sys, headrace, headrace.cli.main; from headrace.core.model import Model\n"
        "from headrace.endpoints import endpoint_of\n"
        "one = endpoint_of(Model('sim:'), {}); assert one.price is None\n"
        "two = endpoint_of(Model('openai:m', base_url='http://127.0.0.1:9/v1'), {}); assert two.price is None\n"
        "assert 'genai_prices' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# A file of one's own.


def test_a_file_goes_before_what_is_known(tmp_path: Path) -> None:
    """Given or named in the environment, as TOML or as JSON; what is given goes before the environment."""
    toml = tmp_path / "prices.toml"
    toml.write_text('["openai:gpt-4o"]\ninput = 1\noutput = 2\n["sim:*"]\ninput = 3.0\noutput = 4.0\n', "utf-8")
    json = tmp_path / "prices.json"
    json.write_text('\ufeff{"openai:gpt-4o": {"input": 7, "output": 0}, "local": {"input": 1, "output": 1}}', "utf-8")
    key = {"OPENAI_API_KEY": "sk-0123456789abcdef"}

    def usd(spec: str, prices: Path | None, **environ: str) -> float | None:
        found = endpoint_of(Model(spec), key | environ, to_call=False, prices=prices).price
        return None if found is None else found.usd(1_000_000, 1_000_000)

    assert usd("openai:gpt-4o", toml) == 3.0
    assert usd("openai:gpt-4o", json) == 7.0
    assert usd("openai:gpt-4o", None, HEADRACE_PRICES=str(json)) == 7.0
    assert usd("openai:gpt-4o", toml, HEADRACE_PRICES=str(json)) == 3.0
    assert usd("openai:gpt-4o", None) == 12.5
    assert usd("sim:latency=1", toml) == 7.0
    assert usd("sim:", json) is None
    assert usd("local", json) == 2.0


def test_the_longest_name_that_fits_counts() -> None:
    """An exact name goes before one with a star, and no other sign is special."""
    text = '["*"]\ninput=1\noutput=1\n["openai:*"]\ninput=2\noutput=2\n["openai:a.c"]\ninput=3\noutput=3\n["openai:[x]*"]\ninput=4\noutput=4\n'
    each = {spec: own(text, spec) for spec in ("groq:m", "openai:m", "openai:a.c", "openai:abc", "openai:[x]y")}
    assert [found.rates[0].input for found in each.values() if found] == [1.0, 2.0, 3.0, 2.0, 4.0]
    assert own('["openai:*"]\ninput=2\noutput=2\n', "groq:m") is None


def test_a_file_may_name_all_that_a_price_has() -> None:
    """Cached input, cache writes, tiers, dollars a call and a batch's share."""
    text = (
        HEADER + "input = 2\noutput = 8\ncached-input = 0.5\ncache-write = 2.5\ncall = 0.01\nbatch = 0.5\n"
        "tiers = [{above = 1000, input = 4, output = 16}, {above = 100, input = 3, output = 9, cached-input = 1}]\n"
    )
    found = own(text, "openai:m")
    assert found is not None
    assert found.usd(100, 10, 40) == pytest.approx(0.01 + (60 * 2 + 40 * 0.5 + 10 * 8) / 1e6)
    assert found.usd(101, 10, 40) == pytest.approx(0.01 + (61 * 3 + 40 * 1 + 10 * 9) / 1e6)
    assert found.usd(1001, 10, 40) == pytest.approx(0.01 + (1001 * 4 + 10 * 16) / 1e6)
    half = own(text, "openai:m", batch=True)
    assert half is not None
    assert half.usd(101, 10, 40) == pytest.approx((found.usd(101, 10, 40) or 0) / 2)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("input = 1\n", "no model"),
        ('["gpt-5"]\ninput=1\noutput=1\n', "no model"),
        (HEADER + "input = 1\n", "output"),
        (HEADER + "input = 1\noutput = 'much'\n", "float"),
        (HEADER + "input = 1\noutput = 1\ninputs = 1\n", "inputs"),
        (HEADER + "input = -1\noutput = 1\n", "below 0"),
        (HEADER + "input = nan\noutput = 1\n", "below 0"),
        (HEADER + "input = 1\noutput = inf\n", "below 0"),
        (HEADER + "input = 1\noutput = 1\ntiers = [{above = 0, input = 1, output = 1}]\n", "tiers"),
        (HEADER + "input = 1\noutput = 1\ntiers = [{above = 5, input = 1, output = nan}]\n", "below 0"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, word: str) -> None:
    """With the file, the model and what is wrong; never a price guessed."""
    with pytest.raises(UsageError, match=word) as raised:
        own(text, "openai:m")
    assert "prices.toml" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.toml", b"= 1", "no TOML"),
        ("a.json", b"{", "no JSON"),
        ("b.json", b"[1]", "no table"),
        ("c.json", b"[" * 100_000, "no JSON"),
        ("d.toml", b"\xff\xfe", "no UTF-8"),
        ("e.toml", b"a" * 1_000_001, "larger"),
        ("none.toml", None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, word: str) -> None:
    """A sentence with the file's name, whatever is wrong with it."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=word) as raised:
        read_mapping(path)
    assert name in raised.value.message


# The worst case.

dollars = st.floats(0, 1000, allow_nan=False)
rates = st.lists(
    st.builds(Rate, st.integers(1, 2_000_000), dollars, dollars, dollars, dollars, dollars), min_size=1, max_size=4
).map(lambda found: tuple(sorted(found, key=lambda rate: rate.above)))
counts = st.integers(0, 3_000_000)


@settings(deadline=None)
@given(st.builds(Price, rates, st.floats(0, 1)), counts, counts, counts, counts, counts, st.data())
def test_no_call_costs_more_than_its_worst_case(
    found: Price, most_in: int, most_out: int, cached: int, thought: int, written: int, data: st.DataObject
) -> None:
    """Whatever prices there are and however its tokens are split, also where the call took less than it might."""
    into, out = data.draw(st.integers(0, most_in)), data.draw(st.integers(0, most_out))
    usd = found.usd(into, out, cached, thought, written)
    assert usd is not None
    assert usd >= -1e-9
    assert usd <= found.worst(most_in, most_out) * (1 + 1e-9) + 1e-12


@settings(deadline=None)
@given(st.sampled_from(MODELS), counts, counts, counts)
def test_the_worst_case_of_a_real_model(which: tuple[str, str], into: int, out: int, cached: int) -> None:
    """As above, with prices that there are; and it is finite, so that it can be reserved."""
    found = price(*which)
    usd = found.usd(into, out, cached)
    assert usd is not None
    assert 0 <= usd <= found.worst(into, out) * (1 + 1e-12)
    assert math.isfinite(found.worst(into, out))
