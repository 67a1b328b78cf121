"""Converters of estimators to ONNX, run where they suit: in this process, or in an environment of their own.

skl2onnx cannot convert scikit-learn's histogram gradient boosting with protobuf 7, which the deployment has, and can
with protobuf 6; and a deployment need not have the converters. Their environment sees the packages of this one behind
its own, so that the estimator's library is the same.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.agent.requirements import RequirementsFailed, python_for, unsatisfied

if TYPE_CHECKING:
    import numpy

#: what this process needs to convert
SUIT = ("skl2onnx>=1.19", "onnxmltools>=1.14")
#: what it needs besides for histogram gradient boosting
SUIT_HISTOGRAMS = ("protobuf<7",)
#: what an environment for converters gets: with these, every kind of estimator is converted
PINNED = ("skl2onnx==1.20.0", "onnxmltools==1.16.0", "protobuf>=6.33.5,<7")
#: classes that need protobuf 6
_HISTOGRAMS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
#: folders of installed packages, which the environment sees behind its own
_INSTALLED = ("site-packages", "dist-packages")
#: what the process in the environment reads and writes
REQUEST, CONVERTED, REASON = "request.pickle", "model.onnx", "reason.txt"


def convert(estimator: Any, inputs: Mapping[str, numpy.ndarray[Any, Any]], *, scratch: Path, venvs: Path) -> Path:
    """Write ``estimator`` as an ONNX program into ``scratch`` and return its path.

    :param inputs: example inputs by name, whose types and widths the program gets
    :param venvs: where an environment is made where one is needed, to be reused
    :raises ValueError: no converter knows a part of the estimator, or the converters could not be installed
    """
    from modelway.job.freezing.convert import converted

    scratch.mkdir(parents=True, exist_ok=True)
    wanted = scratch / "suit.txt"
    wanted.write_text("\n".join([*SUIT, *(SUIT_HISTOGRAMS if _has_histograms(estimator) else ())]) + "\n")
    if not unsatisfied(wanted):
        (scratch / CONVERTED).write_bytes(converted(estimator, inputs))
    else:
        _convert_elsewhere(estimator, inputs, scratch=scratch, venvs=venvs)
    return scratch / CONVERTED


def _convert_elsewhere(
    estimator: Any, inputs: Mapping[str, numpy.ndarray[Any, Any]], *, scratch: Path, venvs: Path
) -> None:
    pinned = scratch / "requirements.txt"
    pinned.write_text("\n".join(PINNED) + "\n")
    try:
        python = python_for(requirements=pinned, scratch=scratch, say=lambda line: print(line, flush=True), venvs=venvs)
    except RequirementsFailed as error:
        raise ValueError(
            f"export: the converters of estimators could not be installed ({error}); where there is no package index, "
            f"put {', '.join(PINNED)} into the image of the job"
        ) from None
    # Between two processes of this job; nothing that verifies or serves reads it.
    (scratch / REQUEST).write_bytes(pickle.dumps((estimator, dict(inputs))))
    done = subprocess.run([python, "-m", "modelway.job.freezing.convert", str(scratch)], env=_environment())
    if done.returncode:
        said = (scratch / REASON).read_text() if (scratch / REASON).exists() else ""
        raise ValueError(said or f"export: the converter ended with exit status {done.returncode}; its log says why")


def _environment() -> dict[str, str]:
    """Return this process's environment, with the folders of modules that are no installed packages."""
    installed = {str(Path(place)) for place in sysconfig.get_paths().values()}
    own = [path for path in sys.path if path and path not in installed and not path.endswith(_INSTALLED)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(own)}


def _has_histograms(estimator: Any) -> bool:
    """Return whether an estimator is, or has as a part, one of histogram gradient boosting."""
    waiting, seen = [estimator], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value).__name__ in _HISTOGRAMS:
            return True
        if isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
        elif hasattr(value, "get_params"):
            waiting += vars(value).values()
    return False
