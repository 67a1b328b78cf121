"""Values of every datatype of the protocol, for a model that answers each input as OUT_ and its name."""

from collections.abc import Callable
from typing import Any

import numpy as np

_WHOLE = {f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
_REAL = {"FP16": np.dtype("float16"), "FP32": np.dtype("float32"), "FP64": np.dtype("float64")}


def samples() -> dict[str, np.ndarray]:
    """Two rows of three values of each, the extremes among them."""
    found = {"BOOL": np.array([[True, False, True], [False, False, True]])}
    for name, dtype in _WHOLE.items():
        limits = np.iinfo(dtype)
        found[name] = np.array([[limits.min, 0, 1], [limits.max, 7, 100]], dtype=dtype)
    for name, dtype in _REAL.items():
        ends = np.finfo(dtype)
        found[name] = np.array([[ends.min, -0.0, 1], [ends.max, ends.smallest_subnormal, 0.1]], dtype=dtype)
    found["BYTES"] = np.array([["", "a", "ä €"], ["\U0001f600", "line\nbreak", "x" * 300]], dtype=object)
    return found


def differences(
    answer: Callable[[str], np.ndarray | None], sent_by_name: dict[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Return the datatypes whose answer is not what was sent, each with the answer."""
    wrong = {}
    for name, sent in (sent_by_name or samples()).items():
        found = answer(f"OUT_{name}")
        if found is not None and name == "BYTES":
            # the clients give the strings of binary tensors as bytes
            texts = [each.decode() if isinstance(each, bytes) else each for each in found.ravel()]
            found = np.array(texts, dtype=object).reshape(found.shape)
        if found is None or found.dtype != sent.dtype or not np.array_equal(found, sent):
            wrong[name] = repr(found)
    return wrong
