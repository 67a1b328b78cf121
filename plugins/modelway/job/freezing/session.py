"""The frozen program, run on the cores that this process may use."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    from modelway.torch_program import TorchProgram

CGROUP = Path("/sys/fs/cgroup")


class ProgramFails(ValueError):
    """ONNX Runtime cannot load a program, or cannot run it on some inputs; the text says why in one line."""

    def __init__(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        # The operator and the reason, without the place in ONNX Runtime's source.
        found = re.search(r"while running (\w+) node\. .*?Status Message: (?:\S*:\d+ )?(.*)", text)
        plain = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
        super().__init__((f"{found[1]}: {found[2]}" if found else plain)[:500])


class ProgramModel:
    """A frozen program as a function of arrays, both sides by name."""

    def __init__(self, program: Path | bytes, *, weights: Path | None = None) -> None:
        """Load a program from its file, or from its bytes with its weights in files of the folder ``weights``.

        :raises ProgramFails: ONNX Runtime cannot load it
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # ONNX Runtime's own default counts the cores of the machine, even those that this process may not use.
        options.intra_op_num_threads = usable_cores()
        options.inter_op_num_threads = 1
        if weights is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
        # 4 is fatal: what fails is said once, by whoever runs it.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ProgramFails(error) from error
        self.names = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, numpy.ndarray[Any, Any]]) -> dict[str, numpy.ndarray[Any, Any]]:
        """Return the answers by name.

        :raises ProgramFails: ONNX Runtime cannot run it on these inputs
        """
        try:
            answers = self._session.run(self.names, dict(inputs))
        except Exception as error:
            raise ProgramFails(error) from error
        return dict(zip(self.names, answers, strict=True))


def open_program(folder: Path) -> ProgramModel | TorchProgram | None:
    """Return the frozen program of an unpacked archive, as a function of arrays; None where it has only files."""
    if (path := folder / "model" / "model.onnx").is_file():
        return ProgramModel(path)
    from modelway.torch_program import PROGRAM, TorchProgram

    if (folder / "model" / PROGRAM).is_file():
        return TorchProgram(folder / "model", threads=usable_cores())
    return None


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return how many cores this process may use: by its affinity mask and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Return the control group's limit in cores; None: there is none, or it is not known."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            limit, period = " ".join((cgroup / name).read_text().strip() for name in names).split()
            return float(limit) / float(period) if limit not in ("max", "-1") else None
        except (OSError, ValueError):
            continue
    return None
