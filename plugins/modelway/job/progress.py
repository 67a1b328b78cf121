"""How far a job is: a line in its log, an event and ``progress.json`` beside ``events.jsonl``, all of them seldom."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from modelway.job.events import append_event, json_number

PRINT_SECONDS = 5.0
EVENT_SECONDS = 30.0
GIB = 2**30


class Progress:
    """What one process has told of its progress so far."""

    def __init__(self, folder: Path) -> None:
        """Write into the job's folder."""
        self._folder = folder
        self._first: tuple[float, int] | None = None
        self._examples = 0
        self._counted = False
        self._window = (0.0, 0)
        self._printed = self._recorded = float("-inf")
        self._gpu: _Gpu | None = None

    def tell(self, *, step: int, total: int | None, examples: int | None, loss: float | None) -> None:
        """Take note; write when it is time, or when the last step is reached."""
        now = time.monotonic()
        self._examples += examples or 0
        self._counted = self._counted or examples is not None
        if self._first is None:
            self._first, self._window = (now, step), (now, self._examples)
            self._gpu = _Gpu.of_this_process()
            return
        over = total is not None and step >= total
        if now - max(self._printed, self._first[0]) < PRINT_SECONDS and not over:
            return
        told = self._figures(now, step=step, total=total, loss=loss)
        self._printed, self._window = now, (now, self._examples)
        print("progress: " + line(told), flush=True)
        # A full disk is for the checkpoint to tell of.
        with contextlib.suppress(OSError):
            _replace(self._folder / "progress.json", json.dumps({"at": round(time.time(), 3), **told}))
        if now - self._recorded >= EVENT_SECONDS or over:
            self._recorded = now
            append_event(self._folder, "progress", **told)

    def _figures(self, now: float, *, step: int, total: int | None, loss: float | None) -> dict[str, Any]:
        assert self._first is not None
        told: dict[str, Any] = {"step": step}
        if total:
            told |= {"total": total, "fraction": round(step / total, 4)}
        if loss is not None:
            told["loss"] = json_number(loss)
        since, counted = self._window
        if self._counted and now > since:
            told["examples_per_second"] = round((self._examples - counted) / (now - since), 1)
        began, first = self._first
        if total and step > first:
            told["seconds_left"] = round(max(0, total - step) * (now - began) / (step - first), 1)
        if self._gpu:
            told |= self._gpu.figures()
        return told


def line(told: dict[str, Any]) -> str:
    """Return one line for people: ``step 120/1000 (12 %), loss 0.31, 845 examples/s, 3 m 10 s left``."""
    parts = [f"step {told['step']}"]
    if "total" in told:
        parts = [f"step {told['step']}/{told['total']} ({100 * told['fraction']:.0f} %)"]
    if "loss" in told:
        parts.append(f"loss {float(told['loss']):.4g}")
    if "examples_per_second" in told:
        rate = told["examples_per_second"]
        parts.append(f"{rate:.0f} examples/s" if rate >= 10 else f"{rate:.2g} examples/s")
    if told.get("seconds_left"):
        parts.append(f"{_length(told['seconds_left'])} left")
    if "gpu_percent" in told:
        used, whole = told["gpu_memory_bytes"] / GIB, told["gpu_memory_total_bytes"] / GIB
        parts.append(f"GPU {told['gpu_percent']:.0f} % {used:.1f}/{whole:.0f} GiB")
    return ", ".join(parts)


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    words = [f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number]
    return " ".join(words[:2]) or "0 s"


class _Gpu:
    """The GPUs of the job's machine as ``nvidia-smi`` sees them, asked in a thread: an answer can take a second."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._told: dict[str, Any] = {}
        self._asking: threading.Thread | None = None

    @classmethod
    def of_this_process(cls) -> _Gpu | None:
        """Return the GPUs, or None where there is none."""
        program = shutil.which("nvidia-smi")
        gpu = cls(program) if program else None
        if gpu:
            gpu.figures()
        return gpu

    def figures(self) -> dict[str, Any]:
        """Return what was told last, and ask again for the next time."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, daemon=True)
            self._asking.start()
        return dict(self._told)

    def _ask(self) -> None:
        query = "--query-gpu=utilization.gpu,memory.used,memory.total"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        command = [self._program, query, "--format=csv,noheader,nounits", *(["-i", visible] if visible else [])]
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
            rows = [[float(word) for word in row.split(",")] for row in text.strip().splitlines()]
            busy, used, whole = (list(column) for column in zip(*rows))  # noqa: B905 - newer than Python 3.9
            self._told = {
                "gpu_percent": round(sum(busy) / len(busy), 1),
                "gpu_memory_bytes": int(sum(used) * 2**20),
                "gpu_memory_total_bytes": int(sum(whole) * 2**20),
            }


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)
