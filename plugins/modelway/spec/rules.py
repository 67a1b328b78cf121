"""Rules between the keys of a spec, checked on the values as written, valid or not."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from modelway.endpoints.base import endpoint_member
from modelway.failures import FailureKind, RetryRule
from modelway.fields.refusal import KeyPath, Refusal, shown
from modelway.names import MOST_CHARACTERS, endpoint_name
from modelway.ports import known
from modelway.spec.gates import VersionGate, parse_any_gate
from modelway.spec.references import check_uri
from modelway.spec.registry import capabilities, refused_by_backend
from modelway.spec.search_rules import refused_search
from modelway.spec.serving_rules import refused_by_target, refused_rules
from modelway.spec.template import INTERVAL_NAMES, check_syntax, fill, is_template, names_of

# Sample values to fill templates with.
_SAMPLE = {
    "data_interval_start": datetime(2026, 1, 30, tzinfo=UTC),
    "data_interval_end": datetime(2026, 1, 31, tzinfo=UTC),
    "partition": "2026-01-30T00:00:00",
}
# The capability that a key of resources, or of a section with jobs, requires of a backend.
_RESOURCES = {
    "gpu": "gpu",
    "gpu_type": "gpu_type",
    "memory": "memory_limit",
    "cpu": "cpu_limit",
    "disk": "disk_limit",
}
_GIVEN_BY_ALL = {"gpu_type": "nvidia.com/gpu", "nodes": 1, "processes_per_node": 1}
_JOBS = {"nodes": "multi_node", "processes_per_node": "multi_process", "image": "image"}

#: how alike two aliases are of which one is probably misspelled: ``champoin``, but not ``champion-eu``
_MISSPELLED = 0.86
_FOR_ONE_NODE = {"node": "the folder of one node (storage.node)", "uri": "an object store (storage.uri)"}


@dataclass(frozen=True)
class Finding:
    """A broken rule, at the value or key of ``path``."""

    path: KeyPath
    refusal: Refusal
    of_key: bool = False


Rule = Callable[[Mapping[str, Any]], Iterable[Finding]]


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Find broken rules in a spec's values, valid or not."""
    yield from _params_twice(data)
    yield from _datasets(data)
    yield from _label_dataset(data)
    yield from _own_asset(data)
    yield from _deadline(data)
    yield from _freeze_command(data)
    yield from _aliases(data)
    yield from _image_job(data)
    yield from _compared_aliases(data)
    yield from _resources(data)
    yield from _storage(data)
    yield from _refused_by_backends(data)
    yield from _more_memory(data)
    yield from _notifier_templates(data)
    for path, refusal in refused_by_target(_mapping(data, "endpoint"), model=data.get("model")):
        yield Finding(("endpoint", *path), refusal, of_key=True)
    for path, refusal in refused_rules(_mapping(data, "endpoint"), _mapping(data, "monitor")):
        yield Finding(("monitor", *path), refusal, of_key=True)
    yield from (Finding(path, refusal, of_key=True) for path, refusal in refused_search(data))
    yield from _environments(data)
    yield from _images_without_server(data)
    yield from _ab(data)


def _freeze_command(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse a command where only ``export`` can give what is frozen."""
    if _inside(data, "freeze", "format") == "torch_export" and _inside(data, "freeze", "command"):
        refusal = Refusal(
            "a command leaves files, and torch_export needs the torch module itself",
            do="Define export(job, checkpoint) in its place, or write format: onnx",
        )
        yield Finding(("freeze", "command"), refusal)


def _images_without_server(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse an image of the model alone where the target runs images and nothing else."""
    if (_inside(data, "image", "base") or "scratch") != "scratch":
        return
    endpoint = _mapping(data, "endpoint")
    environments = endpoint.get("environments")
    places: list[tuple[KeyPath, object]] = [(("endpoint",), endpoint)]
    if isinstance(environments, dict):
        places += [(("endpoint", "environments", name), each) for name, each in environments.items()]
    for path, place in places:
        target = place.get("target") if isinstance(place, dict) else None
        if isinstance(target, str) and target in known("endpoints") and endpoint_member(target).needs_server:
            what = f"the target '{target}' runs images with a server, and image.base is scratch"
            yield Finding((*path, "target"), Refusal(what, do="Write image: {base: server}"), of_key=True)


def _ab(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse more or fewer splits than one to compare two versions at."""
    if _inside(data, "rollout", "mode") == "ab" and len(_list(data, "rollout", "steps")) != 2:
        refusal = Refusal(
            "two versions are compared at one split", do="Write two steps: steps: [{weight: 50, hold: 7d}, 100]"
        )
        path: KeyPath = ("rollout", "steps") if _inside(data, "rollout", "steps") is not None else ("rollout", "mode")
        yield Finding(path, refusal)


def _image_job(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse a backend of the image's own where no job builds it."""
    backend, builder = _inside(data, "image", "backend"), _inside(data, "image", "builder") or "oci"
    if not isinstance(backend, str) or backend == "local":
        return
    if not _inside(data, "image", "repository"):
        refusal = Refusal("without a repository the image stays on this machine", do="Add image.repository")
        yield Finding(("image", "backend"), refusal, of_key=True)
    elif isinstance(builder, str) and "job" not in (capabilities(builder, port="builders") or ("job",)):
        what = f"the builder '{builder}' works in the task itself"
        yield Finding(("image", "backend"), Refusal(what, do="Remove it, or use the builder oci"), of_key=True)


def _environments(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse environments whose endpoints would have too long a name."""
    model, names = data.get("model"), [*_mapping(data, "endpoint", "environments")]
    if not isinstance(model, str) or len(names) < 2:
        return
    for name in names:
        endpoint = endpoint_name(model, str(name))
        if len(endpoint) > MOST_CHARACTERS and len(model) <= MOST_CHARACTERS:
            what = f"its endpoint would be {shown(endpoint)}, and a name has at most {MOST_CHARACTERS} characters"
            path: KeyPath = ("endpoint", "environments", str(name))
            yield Finding(path, Refusal(what, do="Choose a shorter name"), of_key=True)


def _inside(data: object, *path: str | int) -> Any:
    """Return the value at a path, or None."""
    for part in path:
        try:
            data = data[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _mapping(data: object, *path: str | int) -> dict[str, Any]:
    value = _inside(data, *path)
    return value if isinstance(value, dict) else {}


def _list(data: object, *path: str | int) -> list[Any]:
    value = _inside(data, *path)
    return value if isinstance(value, list) else []


def _stage_paths(data: Mapping[str, Any]) -> list[KeyPath]:
    return [("train", "stages", index) for index in range(len(_list(data, "train", "stages")))]


def _params_twice(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse a run's parameter with the name of a fixed one: one would hide the other."""
    declared = _mapping(data, "params")
    for section in (("train",), *_stage_paths(data), ("evaluate",)):
        for name in _mapping(data, *section, "params"):
            if name in declared:
                what = "the run has a parameter of this name (params)"
                yield Finding((*section, "params", name), Refusal(what, do="Keep one of the two"), of_key=True)


def _datasets(data: Mapping[str, Any]) -> Iterator[Finding]:
    params = {
        name: _inside(entry, "default") if isinstance(entry, dict) else entry
        for name, entry in _mapping(data, "params").items()
    }
    has_cron = isinstance(data.get("schedule"), str) or _inside(data, "schedule", "cron") is not None
    for name, entry in _mapping(data, "datasets").items():
        texts = entry if isinstance(entry, dict) else {"uri": entry}
        for key in ("uri", "version"):
            text = texts.get(key)
            if not isinstance(text, str) or not text:
                continue
            path = ("datasets", name, key) if isinstance(entry, dict) else ("datasets", name)
            try:
                filled = _filled(text, params, has_cron)
                if key == "uri":
                    _check_location(filled)
                elif not filled.strip() or len(filled) > 250 or not filled.isprintable():
                    raise Refusal(f"{shown(filled)} cannot be a version", do="Write at most 250 characters in one line")
            except Refusal as refusal:
                yield Finding(path, refusal)


def _label_dataset(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse labels that no rule reads, or from a data set that a check of the monitor cannot find."""
    path: KeyPath = ("monitor", "labels")
    if not _mapping(data, *path):
        return
    if _inside(data, "monitor", "quality") is None:
        what = "without monitor.quality nothing reads labels"
        yield Finding(path, Refusal(what, do="Add quality, such as quality: {}"), of_key=True)
    name, declared = _inside(data, *path, "dataset"), _mapping(data, "datasets")
    if not isinstance(name, str):
        return
    if name not in declared:
        refusal = Refusal(f"{shown(name)} is no data set of this spec (datasets)", known=sorted(declared), given=name)
        yield Finding((*path, "dataset"), refusal)
        return
    entry = declared[name]
    uri = entry.get("uri") if isinstance(entry, dict) else entry
    if isinstance(uri, str) and is_template(uri):
        what = f"the uri of data set {shown(name)} is a template, and a check of the monitor has no run to fill it in"
        yield Finding((*path, "dataset"), Refusal(what, do="Name one with a fixed uri, such as the folder of all days"))


def _filled(text: str, params: Mapping[str, Any], has_cron: bool) -> str:
    if not is_template(text):
        return text
    used = names_of(text, params=params)
    if not has_cron and (of_cron := sorted(used.intersection(INTERVAL_NAMES))):
        what = f"without schedule.cron a run has no {of_cron[0]}"
        raise Refusal(what, do="Add schedule.cron, or use data_interval_end, which every run has")
    return fill(text, _SAMPLE | {"params": params})


def _check_location(uri: str) -> None:
    if "://" in uri:
        check_uri(uri)
    elif not uri.startswith("/") or not uri.isprintable():
        do = "Write a URI such as s3://bucket/folder, or an absolute path that the jobs see"
        raise Refusal(f"{shown(uri)} is neither a URI nor an absolute path", do=do)


def _own_asset(data: Mapping[str, Any]) -> Iterator[Finding]:
    own = f"modelway://{data.get('model')}"
    for index, asset in enumerate(_list(data, "schedule", "assets")):
        if asset == own:
            what = "each version of the model would start the next run, without end"
            yield Finding(("schedule", "assets", index), Refusal(what, do="Name the assets that it is trained from"))


def _deadline(data: Mapping[str, Any]) -> Iterator[Finding]:
    if _list(data, "notifications", "on_deadline") and data.get("deadline") is None:
        refusal = Refusal("without a deadline these are never called", do="Add deadline, such as deadline: 6h")
        yield Finding(("notifications", "on_deadline"), refusal, of_key=True)


def _aliases(data: Mapping[str, Any]) -> Iterator[Finding]:
    registered = _mapping(data, "register").get("alias", "candidate")
    promoted = _mapping(data, "rollout").get("alias", "champion")
    if registered == promoted and isinstance(registered, str):
        path: KeyPath = ("register", "alias") if _inside(data, "register", "alias") else ("rollout", "alias")
        what = f"{shown(registered)} would move at registration, before any traffic has"
        yield Finding(path, Refusal(what, do="Give register.alias and rollout.alias different names"))


def _compared_aliases(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse a gate with an alias that is nearly one of the spec's: a gate with an alias that no version has passes."""
    own = [_mapping(data, "register").get("alias", "candidate"), _mapping(data, "rollout").get("alias", "champion")]
    known = [each for each in own if isinstance(each, str)]
    for name, text in _mapping(data, "verify", "gates").items():
        try:
            gate = parse_any_gate(text)
        except Refusal:
            continue
        if isinstance(gate, VersionGate) and gate.version not in known:
            for near in get_close_matches(gate.version, known, n=1, cutoff=_MISSPELLED):
                what = f"{shown(gate.version)} is nearly the alias '{near}'"
                do = f"Write '{near}', or give the version that is meant an alias that cannot be mistaken for it"
                yield Finding(("verify", "gates", name), Refusal(what, do=do))


def backends_of(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Return each section that has jobs, with the backend that they run on."""
    backend = _mapping(data, "train").get("backend", "local")
    evaluation = _mapping(data, "evaluate").get("backend") or backend
    for section in (("train",), *_stage_paths(data)):
        if isinstance(backend, str):
            yield section, backend
    if isinstance(evaluation, str):
        yield ("evaluate",), evaluation
    if isinstance(image := _inside(data, "image", "backend") or evaluation, str):
        yield ("image",), image
    if isinstance(_inside(data, "rollout", "acceptance"), dict):
        acceptance = _inside(data, "rollout", "acceptance", "backend") or backend
        if isinstance(acceptance, str):
            yield ("rollout", "acceptance"), acceptance


def _resources(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Find resources that the chosen backend does not support on any machine."""
    for section, backend in backends_of(data):
        if (supported := capabilities(backend)) is None:
            continue
        keys = {(*section, "resources", key): needed for key, needed in _RESOURCES.items()}
        keys |= {(*section, key): needed for key, needed in _JOBS.items()}
        for path, needed in keys.items():
            value = _inside(data, *path)
            if value and value != _GIVEN_BY_ALL.get(str(path[-1])) and needed not in supported:
                yield Finding(path, _cannot(backend, needed), of_key=True)


def _cannot(backend: str, needed: str) -> Refusal:
    able = [name for name in known("backends") if needed in (capabilities(name) or ())]
    do = f"Choose the backend {' or '.join(able)}, or remove the key" if able else "Remove the key"
    return Refusal(f"the backend '{backend}' cannot give this", do=do)


def _storage(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Jobs on other machines require a storage for their folders; jobs on this machine have them here."""
    storage = data.get("storage")
    by_backend = {backend: capabilities(backend) for _, backend in backends_of(data)}
    if storage is None:
        for section in ("train", "evaluate", "image"):
            backend = _inside(data, section, "backend")
            if isinstance(backend, str) and "storage" in (by_backend.get(backend) or ()):
                what = f"the backend '{backend}' needs a place for its jobs' folders"
                do = "Add the section storage: a claim, nfs, uri, or a node's folder"
                yield Finding((section, "backend"), Refusal(what, do=do))
    elif by_backend and all(known is not None and "storage" not in known for known in by_backend.values()):
        names = " and ".join(f"'{backend}'" for backend in by_backend)
        what = f"jobs on {names} have a place of their own for their folders"
        yield Finding(("storage",), Refusal(what, do="Remove storage, or choose another backend"), of_key=True)
    for key, what in _FOR_ONE_NODE.items():
        if _inside(storage, key) is None:
            continue
        for path in (("train",), *_stage_paths(data)):
            nodes = _inside(data, *path, "nodes")
            if key == "uri" and "multi_node_on_store" in (by_backend.get(_inside(data, "train", "backend")) or ()):
                continue
            if isinstance(nodes, int) and nodes > 1:
                refusal = Refusal(f"{what} cannot serve {nodes}", do="Use a claim or nfs as storage, or one node")
                yield Finding((*path, "nodes"), refusal)


def _refused_by_backends(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Find what a backend itself refuses; of several sections that meet the same refusal the first is reported."""
    found: dict[KeyPath, Refusal] = {}
    for section, backend in backends_of(data):
        for path, refusal in refused_by_backend(backend, data, section):
            found.setdefault(path, refusal)
    yield from (Finding(path, refusal, of_key=True) for path, refusal in found.items())


def _more_memory(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Refuse more-memory where no job has a memory limit to raise."""
    sections = (("train",), *_stage_paths(data), ("evaluate",), ("image",))
    if any(_inside(data, *section, "resources", "memory") for section in sections):
        return
    for kind, rule in _mapping(data, "retry_rules").items():
        if rule == RetryRule.MORE_MEMORY and kind in list(FailureKind) and FailureKind(kind).is_of_memory:
            refusal = Refusal("no job has a limit that could be raised", do="Set resources.memory, such as memory: 4Gi")
            yield Finding(("retry_rules", kind), refusal)


def _notifier_templates(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Airflow fills these templates in, with its own names: only their syntax can be checked here."""
    for event in ("on_failure", "on_success", "on_deadline", "on_retraining"):
        for index, _ in enumerate(_list(data, "notifications", event)):
            path: KeyPath = ("notifications", event, index, "args")
            for name, value in _mapping(data, *path).items():
                yield from _unreadable((*path, name), value)


def _unreadable(path: KeyPath, value: object) -> Iterator[Finding]:
    if isinstance(value, str):
        try:
            check_syntax(value)
        except Refusal as refusal:
            yield Finding(path, Refusal(refusal.what, do="Write values between {{ and }}, such as {{ run_id }}"))
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _unreadable((*path, key), item)
