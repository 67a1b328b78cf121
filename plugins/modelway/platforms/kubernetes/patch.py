"""Strategic merge, as far as a Job's manifest needs it: mappings merge, named lists merge by name, None removes.

The rules are those of the Kubernetes documentation, "Update API Objects in Place Using kubectl patch", and of its
directives ``$patch: replace`` and ``$patch: delete``; the merge keys are those of PodSpec and Container in the API
reference, and of JobSet.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: by the list's key: what distinguishes its members
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "replicatedJobs": "name",
}
DIRECTIVE = "$patch"
DIRECTIVES = ("delete", "replace")


def strategic_merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``patch`` merged into it; neither is changed."""
    if directive := patch.get(DIRECTIVE):
        rest = {} if directive == "delete" else {key: value for key, value in patch.items() if key != DIRECTIVE}
        return strategic_merge({}, rest)
    merged = dict(base)
    for key, value in patch.items():
        known = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = strategic_merge(known if isinstance(known, Mapping) else {}, value)
        elif key in MERGE_KEYS and isinstance(value, list | tuple):
            merged[key] = _merge_lists(known if isinstance(known, list) else [], value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def unknown_directives(patch: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of a patch's unknown directives (keys with ``$``), so that they are not sent as data."""
    if isinstance(patch, Mapping):
        for key, value in patch.items():
            known = key == DIRECTIVE and value in DIRECTIVES
            if str(key).startswith("$") and not known:
                yield (*path, str(key))
            else:
                yield from unknown_directives(value, (*path, str(key)))
    elif isinstance(patch, list | tuple):
        for index, value in enumerate(patch):
            yield from unknown_directives(value, (*path, index))


def _merge_lists(base: list[Any], patch: Sequence[Any], key: str) -> list[Any]:
    if any(_directive(member) == "replace" for member in patch):
        return [member for member in patch if _directive(member) is None]
    merged = list(base)
    for member in patch:
        named = member.get(key) if isinstance(member, Mapping) else None
        place = next((index for index, one in enumerate(merged) if named is not None and one.get(key) == named), None)
        if _directive(member) == "delete":
            if place is not None:
                del merged[place]
        elif place is None:
            merged.append(strategic_merge({}, member) if isinstance(member, Mapping) else member)
        else:
            merged[place] = strategic_merge(merged[place], member)
    return merged


def _directive(member: Any) -> str | None:
    return member.get(DIRECTIVE) if isinstance(member, Mapping) else None
