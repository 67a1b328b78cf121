"""What a model's ``export(job, checkpoint)`` gives: a module, example inputs, and options beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: keys of the mapping that may follow the example inputs
OPTIONS = ("output_names", "golden", "sizes", "rows", "labels", "score")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A module to freeze, with example inputs and the options that came with them."""

    module: torch.nn.Module
    inputs: Any
    output_names: Sequence[str] = field(default=())
    """names of the outputs in order, where the module gives a tuple"""
    golden: Sequence[Mapping[str, Any]] = field(default=())
    """golden inputs by name, each used as it is, in place of batches of the example inputs"""
    sizes: Sequence[int] = field(default=())
    """the sizes of the batches to try"""
    rows: Any = None
    """real rows: tensors by the inputs' names, or the name of a data set that holds them"""
    labels: Any = None
    """what ``score`` gets besides the answers to the rows"""
    score: Callable[[Mapping[str, Any], Any], Mapping[str, float]] | None = None
    """gives metrics of the answers to the rows, arrays by the outputs' names, and the labels"""

    @classmethod
    def of(cls, exported: Any) -> Exported:
        """Read what ``export`` returned: ``(module, inputs)`` or ``(module, inputs, options)``.

        :raises TypeError: it is neither, or the module is none of torch's
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
        given = cls(module=module, inputs=inputs, **options)
        given._check()
        return given

    def _check(self) -> None:
        """Refuse options that are not of the form that they must have."""
        if not isinstance(self.golden, (list, tuple)) or not all(isinstance(each, Mapping) for each in self.golden):
            raise TypeError("export: golden must be a list of mappings from the inputs' names to tensors")
        sizes = self.sizes if isinstance(self.sizes, (list, tuple)) else [self.sizes]
        if odd := [size for size in sizes if type(size) is not int or size < 1]:
            raise ValueError(f"export: sizes must be a list of whole numbers from 1, got {odd[0]!r:.60}")
        if self.rows is None and (self.labels is not None or self.score is not None):
            raise ValueError("export: labels and score are about rows; give rows too")
        if self.score is not None and not callable(self.score):
            raise TypeError(f"export: score must be a function of outputs and labels, got {type(self.score).__name__}")
