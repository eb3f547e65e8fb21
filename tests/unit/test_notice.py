"""What the simulated provider tells of its limits, in the words of each provider; and its weather's words."""

import json
import math
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import LargerThanLimit, Overloaded, QuotaExhausted, Throttled, Transient, UsageError
from headrace.core.limits import Unit
from headrace.provider.chance import Fault, Latency
from headrace.provider.door import Door
from headrace.provider.error_body import go_duration
from headrace.provider.manner import MANNERS
from headrace.provider.notice import Answer, Notice, headers
from headrace.provider.quota import Level, Quota, Refusal
from headrace.provider.simulated import Simulated
from headrace.provider.weather import Change, Knee, Outage

WALL_S = 1_800_000_000.25
REQUESTS = Level(Unit.REQUESTS, 1200, 60, 1187.6, 0.62)
TOKENS = Level(Unit.TOKENS, 200_000, 60, 150_400, 14.88)
FULL = Refusal(Unit.TOKENS, 200_000, 60, 195_869, 4412, 0.0835)
BOTH = [REQUESTS, TOKENS]


def told(name: str, *levels: Level) -> dict[str, str]:
    return headers(Notice.parse(name).lines(levels or BOTH, WALL_S))


def refused(name: str, refusal: Refusal = FULL, *levels: Level) -> tuple[Answer, dict[str, str], Any]:
    answer = Notice.parse(name).refuse(refusal, levels or BOTH, model="m", wall_s=WALL_S, else_s=1.0)
    return answer, headers(answer.lines), json.loads(answer.body)


# Words.


def test_headers_are_read() -> None:
    """A provider, then how it tells waits and what remains; `lying` is OpenAI with both lies."""
    assert Notice.parse("openai") == Notice("openai")
    assert Notice.parse("azure,retry=0") == Notice("azure", 0.0)
    assert Notice.parse("groq,retry=none,remaining=empty") == Notice("groq", math.inf, "empty")
    assert Notice.parse("lying") == Notice("openai", 0.0, "full")


@pytest.mark.parametrize(
    "text",
    ["", "acme", "openai,retry=soon", "openai,retry=-1", "openai,retry=nan", "openai,remaining=much", "openai,x=1"],
)
def test_headers_refuse_nonsense(text: str) -> None:
    """One clear sentence and what is known."""
    with pytest.raises(UsageError) as caught:
        Notice.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.084, "84ms"), (1, "1s"), (7.66, "7.66s"), (60, "1m0s"), (179.56, "2m59.56s"), (360, "6m0s"),
     (86_399.5, "23h59m59.5s")],
)  # fmt: skip
def test_durations_are_written_as_go_does(seconds: float, said: str) -> None:
    """Milliseconds below a second, then seconds with what is left of them, minutes and hours."""
    assert go_duration(seconds) == said


# Headers of good answers.


def test_openai() -> None:
    """Limits of a minute, what remains as whole numbers, resets as Go durations."""
    assert told("openai") == {
        "x-ratelimit-limit-requests": "1200", "x-ratelimit-remaining-requests": "1187",
        "x-ratelimit-reset-requests": "620ms", "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "150400", "x-ratelimit-reset-tokens": "14.88s",
    }  # fmt: skip
    quick = Level(Unit.REQUESTS, 20, 1, 3, 0.9)
    assert told("openai", quick)["x-ratelimit-limit-requests"] == "1200"


def test_azure() -> None:
    """Bare seconds, and the period after which a limit renews."""
    quick = Level(Unit.REQUESTS, 1500, 10, 1499, 9.2)
    assert told("azure", quick) == {
        "x-ratelimit-limit-requests": "9000", "x-ratelimit-remaining-requests": "1499",
        "x-ratelimit-reset-requests": "10", "x-ratelimit-renewalperiod-requests": "10",
    }  # fmt: skip


def test_anthropic() -> None:
    """Own names, tokens to the nearest thousand, resets as RFC 3339 that are not too early."""
    levels = [REQUESTS, Level(Unit.INPUT_TOKENS, 30_000, 60, 27_513, 5), Level(Unit.OUTPUT_TOKENS, 8000, 60, 7499, 3.7)]
    found = told("anthropic", *levels)
    assert len(found) == 9
    assert found["anthropic-ratelimit-input-tokens-remaining"] == "28000"
    assert found["anthropic-ratelimit-output-tokens-limit"] == "8000"
    reset = datetime.fromisoformat(found["anthropic-ratelimit-output-tokens-reset"])
    assert 0 <= reset.timestamp() - (WALL_S + 3.7) < 1


def test_groq() -> None:
    """Of requests those of a day, of tokens those of a minute; a limit of requests a minute is not told."""
    day = Level(Unit.REQUESTS, 14_400, 86_400, 14_370, 179.56)
    assert told("groq", REQUESTS, day, TOKENS) == {
        "x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s", "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "150400", "x-ratelimit-reset-tokens": "14.88s",
    }  # fmt: skip


def test_mistral_and_the_ietf() -> None:
    """Their own names; the draft's structured fields tell window and reset in seconds."""
    assert told("mistral") == {
        "x-ratelimit-limit-req-minute": "1200", "x-ratelimit-remaining-req-minute": "1187",
        "x-ratelimit-limit-tokens-minute": "200000", "x-ratelimit-remaining-tokens-minute": "150400",
    }  # fmt: skip
    assert told("ietf") == {"ratelimit-policy": '"default";q=1200;w=60', "ratelimit": '"default";r=1187;t=1'}


@pytest.mark.parametrize("name", ["plain", "none", "gemini"])
def test_some_tell_nothing(name: str) -> None:
    """Neither with good answers nor with refusals."""
    assert told(name) == {}
    assert not MANNERS[name].always


def test_lies() -> None:
    """What remains is always everything, or nothing, whatever is true."""
    assert told("openai,remaining=full")["x-ratelimit-remaining-tokens"] == "200000"
    assert told("openai,remaining=full")["x-ratelimit-reset-tokens"] == "0s"
    assert told("openai,remaining=empty")["x-ratelimit-remaining-requests"] == "0"


# Refusals.


def test_openai_refuses() -> None:
    """Whole seconds, milliseconds and a sentence with limit, use and charge; the wait is never too short."""
    answer, lines, body = refused("openai")
    assert (answer.status, lines["retry-after"], lines["retry-after-ms"]) == (429, "1", "84")
    assert lines["x-ratelimit-limit-tokens"] == "200000"
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["code"]) == ("tokens", "rate_limit_exceeded")
    assert re.search(
        r"on tokens per min \(TPM\): Limit 200000, Used 195869, Requested 4412\. Please try again in 84ms\.$",
        body["error"]["message"],
    )


def test_azure_refuses_and_lies() -> None:
    """Both waits in headers; a lie of 0 is still a second in the first of them."""
    _, lines, body = refused("azure", Refusal(Unit.TOKENS, 5000, 60, 5000, 100, 42.5))
    assert (lines["retry-after"], lines["retry-after-ms"]) == ("43", "42501")
    assert "exceeded the token rate limit" in body["error"]["message"]
    _, lines, body = refused("azure,retry=0", Refusal(Unit.REQUESTS, 5, 60, 5, 1, 42.5))
    assert (lines["retry-after"], lines["retry-after-ms"]) == ("1", "0")
    assert "exceeded the call rate limit" in body["error"]["message"]


def test_the_others_refuse() -> None:
    """Anthropic in whole seconds, Groq in fractions, OpenRouter by its reset, Mistral by its code."""
    _, lines, body = refused("anthropic")
    assert (lines["retry-after"], body["type"], body["error"]["type"]) == ("1", "error", "rate_limit_error")
    _, lines, body = refused("groq", Refusal(Unit.TOKENS, 8000, 60, 7000, 2000, 7.6594))
    assert lines["retry-after"] == "7.66"
    assert "on tokens per minute (TPM): Limit 8000, Used 7000, Requested 2000." in body["error"]["message"]
    _, lines, body = refused("openrouter", Refusal(Unit.REQUESTS, 20, 60, 20, 1, 5), Level(Unit.REQUESTS, 20, 60, 0, 5))
    assert lines == {
        "x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000005250",
    }  # fmt: skip
    assert body["error"]["metadata"]["error_type"] == "rate_limit_exceeded"
    _, _, body = refused("mistral")
    assert (body["code"], body["type"]) == ("1300", "rate_limited")


def test_gemini_refuses_in_its_body_alone() -> None:
    """The limit and the wait stand in the details, a day's limit by its name."""
    _, lines, body = refused("gemini", Refusal(Unit.REQUESTS, 15, 60, 15, 1, 10.1))
    assert lines == {}
    assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
    failure, retry = body["error"]["details"]
    assert failure["violations"][0]["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
    assert failure["violations"][0]["quotaValue"] == "15"
    assert retry["retryDelay"] == "10.101s"
    _, _, body = refused("gemini", Refusal(Unit.REQUESTS, 250, 86_400, 250, 1, 22))
    assert "PerDay" in body["error"]["details"][0]["violations"][0]["quotaId"]


def test_hidden_limits() -> None:
    """`none` tells nothing at all and `plain` only how long; neither names a limit."""
    for unit in (Unit.REQUESTS, Unit.TOKENS, Unit.CONCURRENCY):
        _, lines, body = refused("none", Refusal(unit, 37, 60, 37, 1, 5))
        assert lines == {}
        assert "37" not in json.dumps(body)
        assert unit.value not in json.dumps(body)
        assert refused("plain", Refusal(unit, 37, 60, 37, 1, 5))[1] == {"retry-after": "5.001"}
    assert refused("plain", Refusal(Unit.CONCURRENCY, 37, 60, 37))[1] == {"retry-after": "1"}


@pytest.mark.parametrize("name", [*MANNERS, "lying", "openai,retry=none", "azure,retry=0", "groq,remaining=full"])
@pytest.mark.parametrize("unit", [Unit.REQUESTS, Unit.TOKENS, Unit.INPUT_TOKENS, Unit.CONCURRENCY, None])
def test_every_refusal_is_understood(name: str, unit: Unit | None) -> None:
    """Whoever words it, a client takes it for a refusal, does not wait too short where the truth is told, and blames
    no other limit than the one that refused."""
    refusal = Refusal(unit, 200, 60, 200, 7, None if unit in (None, Unit.CONCURRENCY) else 12.3456)
    answer = Notice.parse(name).refuse(refusal, BOTH, model="m", wall_s=WALL_S, else_s=3.0)
    error = answer.error(WALL_S)
    assert type(error) is Throttled
    hints = error.hints
    assert (
        hints is None
        or hints.blamed in (None, unit)
        or (name in ("gemini", "mistral", "azure", "azure,retry=0") and hints.blamed is not None)
    )
    if name in ("openai", "groq", "azure", "anthropic", "plain", "mistral", "ietf", "gemini"):
        assert hints is not None
        assert hints.retry_after_s is not None
        assert hints.retry_after_s >= (3.0 if refusal.wait_s is None else refusal.wait_s)
    if name in ("openai", "groq") and refusal.wait_s is not None:
        assert hints is not None
        assert (hints.blamed, hints.charged) == (unit, 7)
    if name == "none":
        assert hints is None or (hints.retry_after_s, hints.blamed, hints.told) == (None, None, ())


@pytest.mark.parametrize("name", MANNERS)
def test_a_call_that_never_fits_is_told_so_by_all(name: str) -> None:
    """No wait is told, and a client knows that this call is larger than the limit."""
    refusal = Refusal(Unit.TOKENS, 8000, 60, 0, 10_098, math.inf)
    answer, lines, _ = refused(name, refusal)
    assert answer.status == (413 if name == "groq" else 429)
    assert "retry-after" not in lines
    assert type(answer.error(WALL_S)) is LargerThanLimit


@pytest.mark.parametrize("name", MANNERS)
def test_faults_in_all_shapes(name: str) -> None:
    """Overload, credit that is gone, a gateway's page and an error in a 200 are known in every provider's shape."""
    kinds = {
        Fault.ERROR_500: Transient, Fault.UNAVAILABLE_503: Overloaded, Fault.OVERLOADED_529: Overloaded,
        Fault.SLOW_DOWN: Throttled, Fault.QUOTA: QuotaExhausted, Fault.HTML: Transient, Fault.HIDDEN: Transient,
    }  # fmt: skip
    for fault, kind in kinds.items():
        answer = Notice.parse(name).fault(fault)
        assert answer is not None
        error = answer.error(WALL_S)
        assert type(error) is kind, (name, fault)
        calm_s = error.hints.calm_s if error.hints else 0
        assert (calm_s > 0) == (fault is Fault.SLOW_DOWN)
    assert Notice.parse(name).fault(Fault.RESET) is None


@given(
    st.sampled_from([*MANNERS, "lying"]),
    st.lists(
        st.builds(
            Level,
            st.sampled_from([Unit.REQUESTS, Unit.TOKENS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS]),
            st.floats(1, 1e9),
            st.sampled_from([0.5, 1.0, 10.0, 60.0, 300.0, 86_400.0]),
            st.floats(0, 1e9),
            st.floats(0, 1e5),
        ),
        max_size=4,
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_level_can_be_told(name: str, levels: list[Level]) -> None:
    """Whatever the levels, each line has one name and one printable value, and a client reads it without trouble."""
    notice = Notice.parse(name)
    lines = notice.lines(levels, WALL_S)
    assert all(re.fullmatch(r"[A-Za-z-]+: [ -~]+", line) for line in lines.split("\r\n")[:-1])
    notice.hints(levels, WALL_S)


# Weather.


def test_weather_is_read() -> None:
    """Outages, knees and changes from their words."""
    assert Outage.parse("30-50=503") == Outage(30, 50, Fault.UNAVAILABLE_503)
    assert Outage.parse("0.5-=reset") == Outage(0.5, math.inf, Fault.RESET)
    assert (Knee.parse("40,1.5"), Knee.parse("40")) == (Knee(40, 1.5), Knee(40, 1))
    assert Change.parse("60:requests=400") == Change(60, "requests", 400)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Outage, each) for each in ("", "30=503", "30-50", "50-30=503", "30-30=503", "a-b=503", "30-50=404", "-5-9=503")]
    + [(Knee, each) for each in ("", "0", "-4", "40,0", "40,99", "40,x", "nan", "inf")]
    + [(Change, each) for each in ("", "60", "60:requests", "requests=4", "x:requests=4", "60:requests=x",
                                   "60:requests=0", "-1:requests=4", "60:seed=4", "60:requests=nan", "60:latency=-1")],
)  # fmt: skip
def test_weather_refuses_nonsense(kind: Any, text: str) -> None:
    """Each bad word gets one sentence and a hint."""
    with pytest.raises(UsageError) as caught:
        kind.parse(text)
    assert caught.value.hint


def test_only_what_is_there_can_change() -> None:
    """A change of a limit or knee that was never given is refused as the provider is made, not when its time comes."""
    for change in ("60:requests=4", "60:knee=4"):
        with pytest.raises(UsageError, match="there is none"):
            Simulated(limits=["tokens=5"], changes=[change])
    with pytest.raises(UsageError, match="no whole number"):
        Simulated(limits=["concurrency=5"], changes=["60:concurrency=2.5"])


def test_a_knee_keeps_throughput_flat_or_lets_it_fall() -> None:
    """Twice as many calls as the knee take twice as long with exponent 1, and longer with more."""
    assert [Knee(40).stretch(each) for each in (1, 40, 80)] == [1, 1, 2]
    assert Knee(40, 1.5).stretch(160) == 8


def test_time_begins_with_the_first_call() -> None:
    """Whatever the clock says then is 0; a clock that begins anew goes on, and a reset begins anew."""
    door = Door(latency=Latency(), limits=[Quota.parse("requests=1/10")], outages=[Outage.parse("30-50=503")])
    assert door.stop(1000, 0, 1, 0) is None
    assert isinstance(door.stop(1005, 0, 1, 0), Refusal)
    assert door.stop(1029, 0, 1, 0) is None
    assert door.stop(1030, 0, 1, 0) is Fault.UNAVAILABLE_503
    assert door.stop(0, 0, 1, 0) is Fault.UNAVAILABLE_503
    assert door.stop(19.9, 0, 1, 0) is Fault.UNAVAILABLE_503
    assert door.stop(20, 0, 1, 0) is None
    door.reset()
    assert door.stop(25, 0, 1, 0) is None
    assert isinstance(door.stop(26, 0, 1, 0), Refusal)


def test_a_model_name_takes_all_words() -> None:
    """The same words as on the command line, limits, outages and changes as often as one likes."""
    made = Simulated.parse(
        "latency=lognormal:2,0.5,limit=requests=1200/60,kind=bucket,capacity=20,tail=0.02=8,limit=tokens=9000,"
        "charge=usage,headers=azure,retry=0,knee=40,1.5,outage=30-50=503,outage=70-=hang,change=60:requests=400,seed=3"
    )
    assert made.latency == Latency(2, 0.5, 0.02, 8)
    assert made.door.quotas.quotas == (
        Quota(unit=Unit.REQUESTS, limit=1200, kind="bucket", capacity=20),
        Quota(unit=Unit.TOKENS, limit=9000, charge="usage"),
    )
    assert (made.notice, made.door.knee, made.seed) == (Notice("azure", 0.0), Knee(40, 1.5), 3)
    assert [outage.fault for outage in made.door.weather.outages] == [Fault.UNAVAILABLE_503, Fault.HANG]
    assert made.door.weather.changes == (Change(60, "requests", 400),)


@pytest.mark.parametrize(
    "name", ["limit=", "limit=5", "kind=bucket", "limit=requests=5,charge=usage", "knee=40,1,2", "headers=acme",
             "seed=1,seed=2", "tail=2", "outage=5", "change=5", "retry=0"],
)  # fmt: skip
def test_a_bad_model_name_is_refused(name: str) -> None:
    """A word in the wrong place is refused with a sentence."""
    with pytest.raises(UsageError):
        Simulated.parse(name)
