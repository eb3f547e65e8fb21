"""A pipeline in a TOML file: `headrace run pipeline.toml INPUT`. Enters the file's name, leaves the pipeline."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.task.pipeline import Pipeline

_ASKED = ("ask", "system", "returns", "temperature", "max-tokens", "samples", "image")
"""Words that each stage says by itself."""


def take_pipeline(args: argparse.Namespace) -> None:
    """Of two names the first is a pipeline's; of one, where it ends in .toml. Raises UsageError."""
    args.pipeline = None
    if args.then is not None or str(args.input or "").lower().endswith(".toml"):
        args.pipeline, args.input = args.input, args.then
        if not args.pipeline.lower().endswith(".toml"):
            raise UsageError(
                f"There are two inputs: {args.pipeline} and {args.input}.",
                hint="Give one table; a pipeline before it is a file that ends in .toml.",
            )


def pipeline_of(path: str, args: argparse.Namespace, model: Model | None) -> Pipeline[Any]:
    """The file's stages. Those that ask and name no model ask `model`. Raises UsageError."""
    import tomllib  # noqa: PLC0415 - only where there is one to read

    found = args.configuration.found
    for name in _ASKED:
        if name in found and found[name].origin == "flag":
            raise UsageError(f"--{name} is for one question, and {path} is a pipeline.", hint="Say it in its stage.")
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The pipeline {path} cannot be read: {error.strerror}.", hint="Name a TOML file with [[stage]] tables."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}.", hint="See toml.io.") from None
    if model is None and (stage := _unsaid(data)):
        raise UsageError(
            f"{path}: Stage {stage} asks, and no model is said.", hint='Give --model, or in the stage: model = "...".'
        )
    try:
        return Pipeline.from_dict(data, model=model)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None


def _unsaid(data: Mapping[str, Any]) -> int:
    """The number of the first stage that asks a model and names none; 0 where there is none. What is no pipeline is
    told elsewhere."""
    stages = data.get("stage")
    for number, stage in enumerate(stages if isinstance(stages, list) else (), 1):
        parts = stage.get("stages", ()) if isinstance(stage, Mapping) else ()
        for each in (stage, *(parts if isinstance(parts, list) else ())):
            if isinstance(each, Mapping) and each.get("kind") == "ask" and "model" not in each:
                return number
    return 0
