"""A value as one line for people: `Ask('Judge {text}', returns=Insight)`, $0.0123. Leaves out what was not said, cuts what
is long."""

import math
from typing import Any

import msgspec

_LONGEST = 80


def outline(value: msgspec.Struct, *, named: bool = True) -> str:
    """The fields that are not as they are by default; those that have no default without their names, if not `named`."""
    shown = []
    for field in msgspec.structs.fields(value):
        given = getattr(value, field.name)
        required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
        if required and not named:
            shown.append(_cut(given))
        elif required or given != _default(field):
            shown.append(f"{field.name}={_cut(given)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def dollars(usd: float) -> str:
    """$1,204.50, $0.0123; below a cent as many digits as say something."""
    if usd >= 1 or usd <= 0:
        return f"${usd:,.2f}" if usd > 0 else "$0"
    return f"${usd:.4f}" if usd >= 0.001 else f"${usd:.{min(20, 2 - math.floor(math.log10(usd)))}f}"


def _default(field: Any) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _cut(value: Any) -> str:
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        return str(getattr(value, "__qualname__", value.__name__))
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…")
    text = repr(value)
    return text if len(text) <= 2 * _LONGEST else f"{text[: 2 * _LONGEST - 1]}…"
