"""What a model's ``export(job, checkpoint)`` returns: a model, example inputs, and options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: keys of the mapping that may follow the example inputs
OPTIONS = ("answers", "dynamic", "golden", "labels", "output_names", "rows", "score", "sizes", "unbatched")
#: options about the code of a torch module
MODULE_OPTIONS = ("dynamic", "unbatched")
#: what a model may be: a torch module, a fitted estimator, or the path of a file or folder
MODULE, ESTIMATOR, PATH = "a torch module", "an estimator", "a path"


@dataclass(frozen=True)
class Exported:
    """A model to freeze, with example inputs and the options that came with them."""

    model: Any
    """a ``torch.nn.Module``, a fitted estimator, or the path of a file or folder"""
    inputs: Any = None
    answers: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """returns the checkpoint's answers to inputs, both as arrays by name; for a path"""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """by input, the dimensions beside the batch that may have any size, each with a name; those of one name agree"""
    output_names: Sequence[str] = field(default=())
    """names of the outputs in order, in place of those that come from the answer itself"""
    unbatched: Sequence[str] = field(default=())
    """inputs whose first dimension is not the batch, or that have no dimension"""
    golden: Sequence[Mapping[str, Any]] = field(default=())
    """golden inputs by name, each used as it is, in place of batches of the example inputs"""
    sizes: Sequence[int] = field(default=())
    """the sizes of the batches to try"""
    rows: Any = None
    """real rows: tensors by the inputs' names, or the name of a data set that contains them"""
    labels: Any = None
    """the second argument of ``score``, beside the answers to the rows"""
    score: Callable[[Mapping[str, Any], Any], Mapping[str, float]] | None = None
    """returns metrics, from the answers to the rows (arrays by the outputs' names) and the labels"""

    @property
    def kind(self) -> str:
        """What the model is: ``MODULE``, ``ESTIMATOR`` or ``PATH``."""
        return _kind(self.model)

    @classmethod
    def of(cls, exported: Any) -> Exported:
        """Read what ``export`` returned: ``(model, inputs)`` or ``(model, inputs, options)``, or a path alone.

        :raises TypeError: it is neither, the model is of no known kind, or an option is of another type
        :raises ValueError: an option is unknown, or not for this kind of model
        """
        if isinstance(exported, (str, os.PathLike)):
            exported = (exported, None)
        if not isinstance(exported, tuple) or len(exported) not in (2, 3):
            raise TypeError(
                f"export must give (model, example inputs), got {type(exported).__name__}; options may follow them: "
                f"{', '.join(OPTIONS)}"
            )
        model, inputs, options = (*exported, {}) if len(exported) == 2 else exported
        kind = _kind(model)
        if not isinstance(options, Mapping):
            raise TypeError(f"export: the options must be a mapping, got {type(options).__name__}")
        if unknown := sorted(str(name) for name in options if name not in OPTIONS):
            raise ValueError(f"export: unknown options {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
        if odd := [name for name in MODULE_OPTIONS if name in options and kind != MODULE]:
            raise ValueError(f"export: the option {odd[0]} is for {MODULE}, the model is {kind}; leave it out")
        if "answers" in options and not (kind == PATH and callable(options["answers"])):
            raise ValueError(f"export: answers must be a function of inputs, beside {PATH}")
        for name in ("output_names", "unbatched"):
            _check_names(name, options.get(name, ()))
        _check_dynamic(options.get("dynamic", {}))
        _check_evidence(options)
        return cls(model=model, inputs=inputs, **options)


def _kind(model: Any) -> str:
    """Return what a model is.

    :raises TypeError: it is nothing that can be frozen
    """
    if (torch := sys.modules.get("torch")) and isinstance(model, torch.nn.Module):
        return MODULE
    if isinstance(model, (str, os.PathLike)):
        return PATH
    if isinstance(model, type):
        raise TypeError(
            f"export must give a model first, got the class {model.__name__}: make one, and load the checkpoint"
        )
    if callable(getattr(model, "predict", None) or getattr(model, "transform", None)):
        return ESTIMATOR
    raise TypeError(
        "export must give a torch.nn.Module, a fitted estimator (of scikit-learn, XGBoost or LightGBM) or the path of "
        f"an ONNX file first, got {type(model).__name__}"
    )


def _check_names(option: str, names: Any) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"export: {option} must be a list of names, got {names!r:.80}")


def _check_evidence(options: Mapping[str, Any]) -> None:
    """Refuse golden inputs, sizes, rows and score that do not have the required form."""
    golden, sizes, score = options.get("golden", ()), options.get("sizes", ()), options.get("score")
    if not isinstance(golden, (list, tuple)) or not all(isinstance(each, Mapping) for each in golden):
        raise TypeError("export: golden must be a list of mappings from the inputs' names to tensors")
    if not isinstance(sizes, (list, tuple)) or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f"export: sizes must be a list of whole numbers from 1, got {sizes!r:.60}")
    if options.get("rows") is None and (options.get("labels") is not None or score is not None):
        raise ValueError("export: labels and score are about rows; give rows too")
    if score is not None and not callable(score):
        raise TypeError(f"export: score must be a function of outputs and labels, got {type(score).__name__}")


def _check_dynamic(dynamic: Any) -> None:
    sound = isinstance(dynamic, Mapping) and all(
        isinstance(one, Mapping)
        and all(type(place) is int and place >= 0 and isinstance(name, str) for place, name in one.items())
        for one in dynamic.values()
    )
    if not sound:
        raise TypeError(
            'export: dynamic must give names of dimensions by input and place, such as {"tokens": {1: "length"}}, '
            f"got {dynamic!r:.80}"
        )
    for name in {name for one in dynamic.values() for name in one.values()}:
        if not (name.isidentifier() and name.islower()):
            raise ValueError(
                f"export: dynamic: '{name}' cannot name a dimension; write a lowercase word, such as length"
            )
