"""Freeze a model: the files that serve it, and golden inputs with the checkpoint's answers.

ONNX is the default. The program's external data points into safetensors files (ONNX external data is a file name, an
offset and a length), so there is one copy of the weights and a new version with an old backbone shares its bytes.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelway.job.freezing.evidence import write_evidence
from modelway.job.freezing.exported import ESTIMATOR, MODULE, PATH, Exported
from modelway.job.freezing.rows import RealRows
from modelway.job.freezing.served_form import ServedForm

#: the values of ``freeze.format``
FORMATS = ("onnx", "torch_export", "files")


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector run rarely: torch's exporter creates a million objects, nearly all of them to last."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@rare_collections()
def freeze(
    *,
    exported: Exported,
    name: str,
    seed: int,
    folder: Path,
    rows: RealRows | None = None,
    format: str = "onnx",
    venvs: Path | None = None,
) -> None:
    """Write ``model/``, ``golden/`` and ``outputs/`` of the archive into ``folder``.

    :param exported: the model with the checkpoint's weights, and example inputs by name, whose first dimension is the
        batch, which becomes dynamic, where the options do not say otherwise. A torch module is put into eval mode; its
        inputs may also be a tensor or a tuple of tensors
    :param rows: real rows of an evaluation
    :param format: one of ``FORMATS``
    :param venvs: where environments for the converters of estimators are made, to be reused; default: beside
        ``folder``, for this job alone
    :raises ValueError: the inputs are not such tensors, or the model cannot be frozen; the message says why
    """
    for part in ("model", "golden", "outputs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    form = _writer(exported, format=format, seed=seed, venvs=venvs or folder.parent / "venvs")(folder / "model")
    joins = write_evidence(form, exported=exported, rows=rows, folder=folder)
    (folder / "outputs" / "model.yml").write_text(
        json.dumps(_description(name, form, joins), indent=1, sort_keys=True, allow_nan=False)
    )
    (folder / "outputs" / "graph_version.txt").write_text(f"{form.version}\n")


def _writer(exported: Exported, *, format: str, seed: int, venvs: Path) -> Callable[[Path], ServedForm]:
    """Return what writes the model's files into a folder."""

    def onnx_of_module(folder: Path) -> ServedForm:
        from modelway.job.freezing.torch_forms import write_onnx

        return write_onnx(exported, seed=seed, folder=folder)

    def onnx_of_estimator(folder: Path) -> ServedForm:
        from modelway.job.freezing.estimators import write_estimator

        return write_estimator(exported, folder=folder, venvs=venvs)

    def onnx_of_path(folder: Path) -> ServedForm:
        from modelway.job.freezing.given_program import write_given_program

        return write_given_program(exported, folder=folder)

    def torch_export(folder: Path) -> ServedForm:
        from modelway.job.freezing.torch_forms import write_torch_export

        return write_torch_export(exported, seed=seed, folder=folder)

    def files(folder: Path) -> ServedForm:
        from modelway.job.freezing.given_files import write_given_files

        return write_given_files(exported, folder=folder)

    if format == "onnx":
        return {MODULE: onnx_of_module, ESTIMATOR: onnx_of_estimator, PATH: onnx_of_path}[exported.kind]
    return {"torch_export": torch_export, "files": files}[format]


def _description(name: str, form: ServedForm, joins: tuple[bool, str]) -> Mapping[str, Any]:
    return {
        "name": name,
        "platform": form.platform,
        "inputs": list(form.inputs),
        "outputs": list(form.outputs),
        "batches": joins[0],
        "batches_reason": joins[1],
        "parameters": form.parameters,
        "tensors": list(form.tensors),
        "layers": list(form.layers),
        "operators": list(form.operators),
    }
