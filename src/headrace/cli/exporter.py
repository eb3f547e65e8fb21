"""OpenTelemetry as its standard environment variables say, for the command: a library leaves that to its program.

Enters the environment; leaves spans on their way to an exporter, or a sentence that says why there are none.
"""

import sys
from collections.abc import Mapping
from typing import Any

_OFF = ("", "none")
_ADDRESSES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_INSTALL = 'pip install "headrace[otel]"'


def export_spans(environ: Mapping[str, str]) -> str:
    """Set OpenTelemetry up where the environment asks for it and nobody else has; what a person should know of that.

    Without `OTEL_TRACES_EXPORTER` an address is enough: it is OTLP's. The SDK reads all its other variables by itself.
    """
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    addressed = any(environ.get(name) for name in _ADDRESSES)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or named.lower() == "none":
        return ""
    if not named and not addressed:
        return ""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - optional, and slow
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above
    except ImportError:  # an address alone may be meant for others
        return f"No spans are sent: OpenTelemetry is not installed ({_INSTALL})." if named else ""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # as opentelemetry-instrument does
        return ""
    exporters, missing = _exporters(named or "otlp", environ)
    if exporters:
        provider = TracerProvider()
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)  # which sends what is left when the program ends
    return f"No spans are sent to {', '.join(missing)}: there is no such exporter ({_INSTALL})." if missing else ""


def _exporters(named: str, environ: Mapping[str, str]) -> tuple[list[Any], list[str]]:
    """Those that are named, and the names of those that are not there."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - only who exports needs it

    there = {found.name: found for found in entry_points(group="opentelemetry_traces_exporter")}
    exporters: list[Any] = []
    missing: list[str] = []
    for name in (each.strip() for each in named.split(",")):
        if name.lower() in _OFF:
            continue
        if name == "console":
            exporters.append(_console())
            continue
        found = next((there[each] for each in _meant(name, environ) if each in there), None)
        if found is None:
            missing.append(name)
        else:
            exporters.append(found.load()())
    return exporters, missing


def _meant(name: str, environ: Mapping[str, str]) -> list[str]:
    """The exporter's own name; of OTLP the protocol that is asked for, else whichever is installed."""
    if name != "otlp":
        return [name]
    protocol = next((environ[each].strip() for each in _PROTOCOLS if environ.get(each)), "")
    return [_OTLP.get(protocol, protocol)] if protocol else list(_OTLP.values())


def _console() -> Any:
    """On standard error: standard output has the rows."""
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - as above

    return ConsoleSpanExporter(out=sys.stderr)
