"""JSON that reads back exactly what was written, with infinities, NaN and tuples, and is strict JSON on disk.

``nan`` and ``inf`` become ``{"$float": "nan"}``, a tuple becomes ``{"$tuple": [...]}``. Bytes depend on the
value alone. What JSON would change in silence (keys that are no strings, arrays) is refused.
"""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: Any, *, where: str = "state") -> bytes:
    """``value`` as JSON with sorted keys.

    Raises:
        TypeError: a value that JSON cannot hold, with its place.
    """
    text = json.dumps(_encode(value, where), indent=1, sort_keys=True, allow_nan=False)
    return text.encode() + b"\n"


def loads(data: bytes) -> Any:
    """The value that :func:`dumps` wrote.

    Raises:
        ValueError: ``data`` is no JSON.
    """
    return _decode(json.loads(data))


def _encode(value: Any, where: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [_encode(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if kind is tuple:
        return {"$tuple": [_encode(item, f"{where}[{position}]") for position, item in enumerate(value)]}
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str or key.startswith("$"):
                raise TypeError(f"{where}: keys must be strings that do not start with '$', found {key!r}.")
        return {key: _encode(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{where}: expected None, bool, int, float, str, list, tuple or dict, found {kind.__name__}. "
        "Convert it first, such as with float(x) or x.tolist()."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        if value.keys() == {"$tuple"}:
            return tuple(_decode(item) for item in value["$tuple"])
        return {key: _decode(item) for key, item in value.items()}
    return value
