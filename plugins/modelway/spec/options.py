"""What a spec says of a stage, as the options of its job."""

from dataclasses import asdict
from typing import Any

from modelway.backends.base import Options
from modelway.spec.model import Evaluation, ModelSpec, Stage

_DEFAULTS = asdict(Options())


def options_of(spec: ModelSpec, timed: Stage | Evaluation) -> dict[str, Any]:
    """Return a job's options (``modelway.backends.base.Options``) as plain data; what has its default is left out."""
    given = {
        **timed.resources.model_dump(mode="python"),
        **{key: getattr(timed, key) for key in ("timeout_seconds", "image", "nodes", "processes_per_node")},
        "storage": spec.storage.model_dump(mode="python", exclude_none=True) if spec.storage else None,
        "platform": spec.platform(timed.backend),
        "retry_rules": dict(spec.retry_rules),
    }
    return {name: value for name, value in given.items() if value not in (None, _DEFAULTS[name])}
