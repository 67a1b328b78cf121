"""How far a job is: a line in its log, an event and ``progress.json`` beside ``events.jsonl``, at limited rates."""

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
    """What one process has reported of its progress so far."""

    def __init__(self, folder: Path) -> None:
        """Write into the job's folder."""
        self._folder = folder
        self._first: tuple[float, int] | None = None
        self._examples = 0
        self._counted = False
        self._window = (0.0, 0)
        self._printed = self._recorded = float("-inf")
        self._gpu: _Gpu | None = None

    def update(self, *, step: int, total: int | None, examples: int | None, loss: float | None) -> None:
        """Record a step; write when it is time, or when the last step is reached."""
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
        figures = self._figures(now, step=step, total=total, loss=loss)
        self._printed, self._window = now, (now, self._examples)
        print("progress: " + line(figures), flush=True)
        # The next checkpoint reports a full disk.
        with contextlib.suppress(OSError):
            _replace(self._folder / "progress.json", json.dumps({"at": round(time.time(), 3), **figures}))
        if now - self._recorded >= EVENT_SECONDS or over:
            self._recorded = now
            append_event(self._folder, "progress", **figures)

    def _figures(self, now: float, *, step: int, total: int | None, loss: float | None) -> dict[str, Any]:
        assert self._first is not None
        figures: dict[str, Any] = {"step": step}
        if total:
            figures |= {"total": total, "fraction": round(step / total, 4)}
        if loss is not None:
            figures["loss"] = json_number(loss)
        since, counted = self._window
        if self._counted and now > since:
            figures["examples_per_second"] = round((self._examples - counted) / (now - since), 1)
        began, first = self._first
        if total and step > first:
            figures["seconds_left"] = round(max(0, total - step) * (now - began) / (step - first), 1)
        if self._gpu:
            figures |= self._gpu.figures()
        return figures


def line(figures: dict[str, Any]) -> str:
    """Return one line for people: ``step 120/1000 (12 %), loss 0.31, 845 examples/s, 3 m 10 s left``."""
    parts = [f"step {figures['step']}"]
    if "total" in figures:
        parts = [f"step {figures['step']}/{figures['total']} ({100 * figures['fraction']:.0f} %)"]
    if "loss" in figures:
        parts.append(f"loss {float(figures['loss']):.4g}")
    if "examples_per_second" in figures:
        rate = figures["examples_per_second"]
        parts.append(f"{rate:.0f} examples/s" if rate >= 10 else f"{rate:.2g} examples/s")
    if figures.get("seconds_left"):
        parts.append(f"{_length(figures['seconds_left'])} left")
    if "gpu_percent" in figures:
        used, whole = figures["gpu_memory_bytes"] / GIB, figures["gpu_memory_total_bytes"] / GIB
        parts.append(f"GPU {figures['gpu_percent']:.0f} % {used:.1f}/{whole:.0f} GiB")
    return ", ".join(parts)


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number]
    return " ".join(parts[:2]) or "0 s"


class _Gpu:
    """The GPUs of the job's machine as ``nvidia-smi`` sees them, queried in a thread: an answer can take a second."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._latest: dict[str, Any] = {}
        self._thread: threading.Thread | None = None

    @classmethod
    def of_this_process(cls) -> _Gpu | None:
        """Return the GPUs, or None where there is none."""
        program = shutil.which("nvidia-smi")
        gpu = cls(program) if program else None
        if gpu:
            gpu.figures()
        return gpu

    def figures(self) -> dict[str, Any]:
        """Return the latest figures, and start a query for the next call."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._query, daemon=True)
            self._thread.start()
        return dict(self._latest)

    def _query(self) -> None:
        query = "--query-gpu=utilization.gpu,memory.used,memory.total"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        command = [self._program, query, "--format=csv,noheader,nounits", *(["-i", visible] if visible else [])]
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
            rows = [[float(word) for word in row.split(",")] for row in text.strip().splitlines()]
            busy, used, whole = (list(column) for column in zip(*rows))  # noqa: B905 - newer than Python 3.9
            self._latest = {
                "gpu_percent": round(sum(busy) / len(busy), 1),
                "gpu_memory_bytes": int(sum(used) * 2**20),
                "gpu_memory_total_bytes": int(sum(whole) * 2**20),
            }


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)
