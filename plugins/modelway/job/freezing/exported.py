"""What a model's ``export(job, checkpoint)`` returns: a module, example inputs, and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: keys of the mapping that may follow the example inputs
OPTIONS = ("dynamic", "golden", "labels", "output_names", "rows", "score", "sizes", "unbatched")


@dataclass(frozen=True)
class Exported:
    """A module to freeze, with example inputs and the options that came with them."""

    module: torch.nn.Module
    inputs: Any
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

    @classmethod
    def of(cls, exported: Any) -> Exported:
        """Read what ``export`` returned: ``(module, inputs)`` or ``(module, inputs, options)``.

        :raises TypeError: it is neither, the module is not one of torch's, or an option is of another type
        :raises ValueError: an option is unknown
        """
        import torch

        if not isinstance(exported, tuple) or len(exported) not in (2, 3):
            raise TypeError(
                f"export must give (module, example inputs), got {type(exported).__name__}; options may follow them: "
                f"{', '.join(OPTIONS)}"
            )
        module, inputs, options = (*exported, {}) if len(exported) == 2 else exported
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"export must give a torch.nn.Module first, got {type(module).__name__}")
        if not isinstance(options, Mapping):
            raise TypeError(f"export: the options must be a mapping, got {type(options).__name__}")
        if unknown := sorted(str(name) for name in options if name not in OPTIONS):
            raise ValueError(f"export: unknown options {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
        for name in ("output_names", "unbatched"):
            _check_names(name, options.get(name, ()))
        _check_dynamic(options.get("dynamic", {}))
        _check_evidence(options)
        return cls(module=module, inputs=inputs, **options)


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
