"""What JSON can hold of a value that it does not know: one hook for all encoders."""

from typing import Any


def json_form(value: Any) -> Any:
    """A Pydantic model as its fields, by the names they have in its schema; paths, sets and the like as Pydantic
    writes them. Raises TypeError where there is no such form."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415 - slow, and seldom needed

    try:
        return to_jsonable_python(value, by_alias=True)
    except PydanticSerializationError as error:
        raise TypeError(f"{type(value).__name__} has no JSON form") from error
