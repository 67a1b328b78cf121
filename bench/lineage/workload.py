"""The runs that every contestant registers and reads: standard library only, MLflow's own environment loads it too."""

import hashlib
import random
from dataclasses import dataclass

MODEL = "bench"
ALIAS = "candidate"


@dataclass(frozen=True)
class Run:
    """What a training leaves behind: 30 params, 40 metrics of 100 steps and 8 files, or less of each."""

    name: str
    params: dict[str, str]
    series: dict[str, list[tuple[int, float]]]
    files: dict[str, tuple[str, int]]
    """The digest and size of each file, by its path."""


def make_run(number: int, *, params: int = 30, metrics: int = 40, steps: int = 100, files: int = 8) -> Run:
    """Return the run of a number: the same number gives the same run."""
    chance = random.Random(number)
    return Run(
        name=f"full-{number}",
        params={f"param_{index}": str(chance.random()) for index in range(params)},
        series={f"metric_{index}": [(step, chance.random()) for step in range(steps)] for index in range(metrics)},
        files={f"model/part-{index}.bin": (digest(f"{number}/{index}"), 1000 + index) for index in range(files)},
    )


def digest(text: str) -> str:
    """Return the digest that the content ``text`` has."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def filled_digest(version: int, place: int) -> str:
    """Return the digest of a file of a version that was filled in; PostgreSQL makes the same."""
    return "sha256:" + hashlib.sha256(f"filled {version}/{place}".encode()).hexdigest()
