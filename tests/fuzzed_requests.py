"""Infer requests that are wrong in every way, made from right ones; the same ones for a seed."""

import contextlib
import copy
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: what a value of a request is replaced by
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**31,
    2**63,
    2**64,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "NaN",
    "x" * 5000,
    "\x00\ud7ff",
    [],
    [[]],
    [[[1]], 2],
    {},
    {"name": {}},
    [2**40],
    [0],
)
DATATYPES = ("BOOL", "INT8", "UINT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "fp32", "")


def odd_documents(document: dict[str, Any], *, seed: int, number: int) -> Iterator[dict[str, Any]]:
    """Yield copies of a request's JSON, each with one to three values replaced, removed, or given twice."""
    chance = random.Random(seed)
    for _ in range(number):
        changed = copy.deepcopy(document)
        for _ in range(chance.randint(1, 3)):
            places = list(_places(changed))
            if not places:
                break
            parent, key = chance.choice(places)
            _change(parent, key, chance)
        yield changed


def odd_bytes(body: bytes, *, seed: int, number: int) -> Iterator[bytes]:
    """Yield copies of a body that are cut off, lengthened, or have some bytes changed."""
    chance = random.Random(seed)
    for _ in range(number):
        changed = bytearray(body)
        kind = chance.randrange(4)
        if kind == 0:
            del changed[chance.randrange(len(changed)) :]
        elif kind == 1:
            changed += chance.randbytes(chance.randint(1, 40))
        elif kind == 2:
            at = chance.randrange(len(changed))
            del changed[at : at + chance.randint(1, 8)]
        else:
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        yield bytes(changed)


@contextmanager
def neighbour(ask: Callable[[float], float]) -> Iterator[None]:
    """Let a well-behaved client ask all the while; every answer must be twice what it sent.

    :param ask: sends one value and returns what came back; raises where there is no answer
    """
    wrong: list[str] = []
    asked = 0
    end = threading.Event()

    def client() -> None:
        nonlocal asked
        while not end.wait(0.002) or asked < 10:
            asked += 1
            value = float(asked % 1000)
            found: object = None
            with contextlib.suppress(Exception):
                found = ask(value)
            if found != 2 * value:
                wrong.append(f"{value}: {found}")

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    assert wrong == []


def text(document: dict[str, Any]) -> bytes:
    """Return the JSON of a changed request; NaN and infinities as the bare words that some clients write."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _change(parent: Any, key: Any, chance: random.Random) -> None:
    kind = chance.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif key == "datatype":
        parent[key] = chance.choice(DATATYPES)
    elif kind == 2 and isinstance(parent[key], int):
        parent[key] += chance.choice((-1, 1, 1000))
    else:
        parent[key] = copy.deepcopy(chance.choice(ODD))
