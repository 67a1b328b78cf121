"""What is decoded and encoded on the event loop, and what in another thread beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

#: bytes that are decoded or encoded on the event loop, which is fastest; more go to another thread
AT_ONCE = 64 << 10

_Found = TypeVar("_Found")
_Arguments = TypeVarTuple("_Arguments")


async def aside(codec: Executor, work: Callable[[Unpack[_Arguments]], _Found], *arguments: *_Arguments) -> _Found:
    """Run ``work`` in the codec's thread and return what it returns."""
    return await asyncio.get_running_loop().run_in_executor(codec, work, *arguments)
