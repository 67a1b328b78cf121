"""Strategic merge, as far as a Job's manifest needs it: mappings merge, named lists merge by name, None removes.

The rules are those of the Kubernetes documentation, "Update API Objects in Place Using kubectl patch"; the merge keys
are those of PodSpec and Container in the API reference.
"""

from collections.abc import Mapping
from typing import Any

#: by the list's key: what tells one of its members from another
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
}


def strategic_merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``patch`` merged into it; neither is changed."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = strategic_merge(merged[key], value)
        elif key in MERGE_KEYS and isinstance(value, list | tuple) and isinstance(merged.get(key), list):
            merged[key] = _merge_lists(merged[key], value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_lists(base: list[Any], patch: list[Any] | tuple[Any, ...], key: str) -> list[Any]:
    merged = list(base)
    for member in patch:
        named = member.get(key) if isinstance(member, Mapping) else None
        place = next((index for index, one in enumerate(merged) if named is not None and one.get(key) == named), None)
        if place is None:
            merged.append(member)
        elif member.get("$patch") == "delete":
            del merged[place]
        else:
            merged[place] = strategic_merge(merged[place], member)
    return merged
