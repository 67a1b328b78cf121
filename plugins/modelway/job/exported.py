"""What a model's ``export(job, checkpoint)`` gives: a module, example inputs, and options beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: keys of the mapping that may follow the example inputs
OPTIONS = ("output_names",)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A module to freeze, with example inputs and the options that came with them."""

    module: torch.nn.Module
    inputs: Any
    output_names: Sequence[str] = field(default=())
    """names of the outputs in order, where the module gives a tuple"""

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
        return cls(module=module, inputs=inputs, **options)
