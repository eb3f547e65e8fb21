"""A question becomes a task for its endpoint, and what is kept of it. Enters an Ask, leaves an AskTask and JSON."""

from collections.abc import Mapping
from typing import Any

from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.endpoints import Endpoint
from headrace.task.ask import AskTask
from headrace.task.prompt import Template
from headrace.task.schema import Returns, returns_of
from headrace.task.work import Ask


def model_of(model: str | Model) -> Model:
    return Model(model) if isinstance(model, str) else model


def asked(
    work: Ask, endpoint: Endpoint, cap: Mapping[str, int] | None = None, stage: str = ""
) -> tuple[AskTask, Template, Returns | None]:
    """`stage` is its name, where there are several."""
    template = Template(work.prompt, stage)
    returns = None if work.returns is None else returns_of(work.returns)
    params = dict(work.params)
    if work.temperature is not None:
        params["temperature"] = work.temperature
    if work.max_tokens is not None:
        params[endpoint.max_tokens] = work.max_tokens
    if work.images and not endpoint.sees:
        raise UsageError("The local model reads text only.", hint="Name a model that sees, such as openai:NAME.")
    task = AskTask(
        template, endpoint=endpoint.identity, model=endpoint.model, system=work.system, returns=returns, params=params,
        images=tuple(work.images), samples=work.samples, cap=cap,
    )  # fmt: skip
    return task, template, returns


def ask_spec(work: Ask, returns: Returns | None, endpoint: Endpoint) -> dict[str, Any]:
    """With what was found in the environment, so that resuming the run asks the same endpoint."""
    plain = work.returns is None or isinstance(work.returns, str | Mapping)
    return {
        "work": "ask", "prompt": work.prompt, "system": work.system,
        "returns": work.returns if plain else _import_path(work.returns), "typed": not plain,
        "schema": returns.schema if returns else None, "model": model_of(work.model).spec,
        "base_url": endpoint.identity[1] or None,
        "temperature": work.temperature, "max_tokens": work.max_tokens, "params": dict(work.params),
        "images": list(work.images), "samples": work.samples,
    }  # fmt: skip


def _import_path(kind: Any) -> str | None:
    """`module:Name` where another process can import the type from there; only the type itself can check its values."""
    module, name = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "")
    return f"{module}:{name}" if name.isidentifier() and module != "__main__" else None
