"""A run as OpenTelemetry spans: `python examples/opentelemetry_console.py`. Needs opentelemetry-sdk, and neither key nor
network.

Nothing has to be switched on: where a program has set OpenTelemetry up, as below or by `opentelemetry-instrument`, a run
makes spans. No prompt and no answer is in them.
"""

import tempfile
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import headrace as hr


def line(span: ReadableSpan) -> str:
    """One span as one line; an exporter of your own sends all of it."""
    used = (span.attributes or {}).get("gen_ai.usage.output_tokens")
    return f"{span.name}{'' if used is None else f', {used} tokens out'}\n"


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))
    trace.set_tracer_provider(provider)

    ask = hr.Ask("One word on {item}", model="sim:")
    with tempfile.TemporaryDirectory() as folder, trace.get_tracer("example").start_as_current_span("nightly job"):
        hr.run(ask, ["rain", "snow"], name="weather", store=Path(folder) / "store.db")


if __name__ == "__main__":
    main()
