"""The options of a job from the section of its stage."""

from dataclasses import asdict
from typing import Any

from modelway.backends.base import Options
from modelway.spec.model import Evaluation, ModelSpec, Stage

_DEFAULTS = asdict(Options())


def options_of(spec: ModelSpec, job_section: Stage | Evaluation) -> dict[str, Any]:
    """Return a job's options (``modelway.backends.base.Options``) as plain data, without defaults."""
    options = {
        **job_section.resources.model_dump(mode="python"),
        **{key: getattr(job_section, key) for key in ("timeout_seconds", "image", "nodes", "processes_per_node")},
        "storage": spec.storage.model_dump(mode="python", exclude_none=True) if spec.storage else None,
        "platform": spec.platform(job_section.backend),
        "retry_rules": dict(spec.retry_rules),
    }
    return {name: value for name, value in options.items() if value not in (None, _DEFAULTS[name])}
