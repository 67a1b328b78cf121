"""The form that triggers a run: what a user or a program may choose for one run."""

from typing import Any

from airflow.sdk import Param

from modelway.spec.model import ModelSpec
from modelway.spec.sections import ParamSection

#: the section that Airflow 3.3's form opens, by this name alone: what is chosen most often
_OPEN = "Run Parameters"
#: closed until somebody presses its name
_MORE = "More about training and traffic"
#: a version's number or an alias, as modelway.lineage.records.alias allows them; not only blanks
_VERSION = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_ROLLOUTS = {
    "auto": "auto: yes, unless this is a backfill or an old run",
    "yes": "yes: move the alias and the traffic",
    "no": "no: register the version, leave alias and traffic alone",
    "rollback": "rollback: give all traffic back to the version named above, at once",
}


def run_form(spec: ModelSpec) -> dict[str, Param]:
    """Return the parameters of a run; Airflow refuses an invalid value before anything runs."""
    own = {name: _declared(name, param) for name, param in spec.params.items()}
    return own | _environment(spec) | _chosen_often() | _chosen_rarely(spec)


def _environment(spec: ModelSpec) -> dict[str, Param]:
    if not (names := list(spec.endpoint.environments)):
        return {}
    return {
        "environment": Param(
            names[0],
            "Where the version is served; the first is for development",
            type="string",
            enum=names,
            title="Environment",
            section=_OPEN,
        )
    }


def _chosen_often() -> dict[str, Param]:
    return {
        "version": _text(
            "Reuse this version in place of training: its number, or an alias such as champion",
            title="Reuse a version",
            section=_OPEN,
            pattern=_VERSION,
            maxLength=200,
        ),
        "rollout": Param(
            "auto",
            "Whether the version gets its alias and the traffic",
            type="string",
            enum=list(_ROLLOUTS),
            values_display=_ROLLOUTS,
            title="Roll out",
            section=_OPEN,
        ),
        "reason": _text("Why this run is started; stored in its record", title="Reason", section=_OPEN, maxLength=500),
    }


def _chosen_rarely(spec: ModelSpec) -> dict[str, Param]:
    stages = [stage.name for stage in spec.stages()]
    return {
        "skip": Param(
            [],
            "Training stages to leave out; the next one starts from where the one before them ended",
            type=["array", "null"],
            items={"type": "string", "enum": stages},
            uniqueItems=True,
            examples=stages,
            title="Skip stages",
            section=_MORE,
        ),
        # The default stays empty: an alias in the spec may not exist yet, one that a user enters must exist.
        "base": _text(
            "Start the first stage from this version's checkpoint: its number, or an alias; none: from scratch; "
            f"empty: {spec.train.base or 'from scratch'}",
            title="Start from a version",
            section=_MORE,
            pattern=_VERSION,
            maxLength=200,
        ),
        "seed": Param(
            spec.train.seed,
            "Makes training repeatable",
            type="integer",
            minimum=0,
            maximum=2**32 - 1,
            title="Seed",
            section=_MORE,
        ),
        "hold_at": Param(
            None,
            "Per cent of the traffic at which the rollout is held until somebody continues it; empty: it is not held",
            type=["integer", "null"],
            minimum=1,
            maximum=99,
            title="Hold the rollout at",
            section=_MORE,
        ),
    }


def _text(description: str, **schema: Any) -> Param:
    """Return a field that is empty by default, and may stay empty."""
    return Param(None, description, type=["string", "null"], **schema)


def _declared(name: str, param: ParamSection) -> Param:
    """Return the field of a parameter that the spec declares; its type is that of its default."""
    schema: dict[str, Any] = {"type": _TYPES[type(param.default)]}
    if param.choices is not None:
        schema["enum"] = list(param.choices)
    if param.minimum is not None:
        schema["minimum"] = param.minimum
    if param.maximum is not None:
        schema["maximum"] = param.maximum
    return Param(param.default, param.description or None, title=name, section=_OPEN, **schema)
