"""What one key asks of another, and what Airflow, Kubernetes and a backend would refuse later."""

from pathlib import Path
from tempfile import mkdtemp

import pytest
from modelway.names import is_alias, job_name
from modelway.spec import registry as rooms
from modelway.spec import rules
from modelway.spec.load import load_files, load_spec, load_specs
from modelway.spec.problems import Problem
from modelway.spec.rules import findings
from modelway.spec.sections import NAME_REPEATED, ParamSection
from modelway.spec.times import check_timezone
from spec_samples import DEFAULTS, RICH, write_model


def problems(tmp_path: Path, text: str) -> tuple[Problem, ...]:
    folder = write_model(Path(mkdtemp(dir=tmp_path)), "m", spec=f"model: m\n{text}")
    return load_files([folder / "model.yaml"], environment="", every_environment=True).problems


@pytest.mark.parametrize("zone", ["localtime", "posix/UTC", "../UTC", "/etc/localtime", "", "\0", "Europe", "UTC+1"])
def test_what_is_no_time_zone_everywhere_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        check_timezone(zone)


@pytest.mark.parametrize("section", ["train", "evaluate"])
@pytest.mark.parametrize(("key", "value"), [("gpu", 1), ("memory", "2Gi"), ("cpu", 0.5)])
def test_resources_that_a_backend_never_gives_are_refused(
    section: str, key: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"model": "m", section: {"backend": "small", "resources": {key: value}}}
    monkeypatch.setattr(rules, "capabilities", lambda backend: frozenset({"cancel", "logs"}))
    (found,) = findings(data)
    assert (found.path, found.of_key) == ((section, "resources", key), True)
    assert str(found.refusal) == "the backend 'small' cannot give this"
    monkeypatch.setattr(rules, "capabilities", lambda backend: frozenset({"gpu", "memory_limit", "cpu_limit"}))
    assert not list(findings(data))


def test_stages_and_evaluation_are_held_to_the_backend_that_they_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "capabilities", lambda backend: frozenset({"gpu"} if backend == "big" else ()))
    data = {
        "train": {"backend": "small", "stages": [{"name": "a"}, {"name": "b", "resources": {"gpu": 2}}]},
        "evaluate": {"backend": "big", "resources": {"gpu": 1}},
    }
    assert [found.path for found in findings(data)] == [("train", "stages", 1, "resources", "gpu")]


CLUSTER = """\
train:
  backend: kubernetes
  image: registry/train:1
  nodes: 2
  processes_per_node: 4
  resources: {memory: 2Gi, disk: 20Gi, gpu: 4, gpu_type: amd.com/gpu}
  stages: [{name: a, nodes: 1}, {name: b}]
evaluate: {backend: docker, image: registry/evaluate:1, resources: {gpu: 1, gpu_type: nvidia.com/gpu}}
storage: {claim: models}
kubernetes:
  env: {PLAIN: text, TOKEN: {secret: hub, key: token}}
  files: {/etc/hub: {config_map: hub}}
retry_rules: {image_pull: retry, out_of_memory: more-memory}
"""


def test_what_the_backends_can_give_is_taken(tmp_path: Path) -> None:
    assert not problems(tmp_path, CLUSTER)
    on_a_node = CLUSTER.replace("nodes: 2", "nodes: 1").replace("{claim: models}", "{node: {name: a, path: /data}}")
    assert not problems(tmp_path, on_a_node)


def test_the_last_of_the_backends_that_needs_storage_keeps_it_useful(tmp_path: Path) -> None:
    mixed = "train: {backend: local}\nevaluate: {backend: kubernetes}\nstorage: {claim: models}\n"
    assert not problems(tmp_path, mixed)
    (found,) = problems(tmp_path, mixed.replace("kubernetes", "local"))
    assert found.where == "storage"


def test_an_environment_can_take_storage_and_image_away(tmp_path: Path) -> None:
    away = "environments: {laptop: {storage: null, train: {backend: local, image: null}}}\n"
    base = "train: {backend: kubernetes, image: registry/train:1}\nstorage: {claim: models}\n"
    assert not problems(tmp_path, base + away)
    kept = base + away.replace(", image: null", "")
    assert [found.where for found in problems(tmp_path, kept)] == ["train.image"]


@pytest.mark.parametrize("backend", rooms.known_names("backends"))
def test_what_lint_knows_of_a_backend_is_what_the_backend_says(backend: str) -> None:
    import importlib

    module = importlib.import_module(f"modelway.backends.{backend}.backend")
    possible = rooms.capabilities(backend)
    assert possible == module.POSSIBLE
    assert possible is not None
    assert module.BACKEND.capabilities <= possible


def test_nothing_is_known_of_a_backend_that_is_not_there() -> None:
    assert rooms.capabilities("../names") is None
    assert rooms.capabilities("nowhere") is None


def test_the_longest_names_fit_airflow_and_kubernetes(tmp_path: Path) -> None:
    name, stage = "m" * 40, "s" * 40
    folder = write_model(tmp_path, name, spec=f"model: {name}\ntrain: {{stages: [{{name: {stage}}}]}}\n")
    spec = load_spec(folder)
    task = f"train.{spec.stages()[0].name}"
    assert len(spec.model) <= 250
    assert len(task) <= 250
    assert len(job_name(model=spec.model, run="r" * 250, stage=task, attempt=9999)) <= 63


@pytest.mark.parametrize(
    "alias", ["champion", "v3", "3", "latest", "v", "Champion", "a" * 65, "", "a.b-c_d", "x-", "3d"]
)
def test_a_spec_takes_the_aliases_that_the_lineage_takes(alias: str) -> None:
    from modelway.errors import ModelwayError
    from modelway.lineage.records.alias import check_alias

    try:
        check_alias(alias)
        taken = True
    except ModelwayError:
        taken = False
    assert is_alias(alias) == taken


@pytest.mark.parametrize("base", ["3", "v3", "latest", "champion"])
def test_a_base_is_what_the_lineage_finds_a_version_by(base: str, tmp_path: Path) -> None:
    assert not problems(tmp_path, f"train: {{base: '{base}'}}\n")


def test_types_and_bounds_of_a_parameter_follow_from_its_default() -> None:
    assert ParamSection(default=1.0, minimum=0, maximum=2).minimum == 0
    assert ParamSection(default=0.5, choices=(0, 0.5)).choices == (0, 0.5)
    assert ParamSection(default="", choices=("", "a")).default == ""
    with pytest.raises(ValueError, match="expected a whole number"):
        ParamSection(default=1, minimum=0.5)


def test_rules_are_found_beside_problems_of_single_values(tmp_path: Path) -> None:
    text = "retries: many\nregister: {alias: champion}\ndatasets: {images: data}\nschedule: {catchup: true}\n"
    found = [one.where for one in problems(tmp_path, text)]
    assert found == ["retries", "register.alias", "datasets.images", "schedule"]


@pytest.mark.parametrize(
    "text",
    [
        "params: [1]\ndatasets: 5\nschedule: [a]\ntrain: x\nevaluate: 3\nnotifications: {on_deadline: 4}\n",
        "train: {stages: {a: 1}, resources: 3, params: x}\nregister: x\nrollout: {alias: [a]}\n",
        "train: {stages: [1, null, {params: 3}], backend: [local]}\nnotifications: {on_failure: [3, {args: [1]}]}\n",
        "schedule: {assets: {a: 1}}\ndatasets: {a: [1], b: {uri: 3}, c: {version: [1]}}\n",
    ],
)
def test_rules_pass_over_values_of_the_wrong_type(text: str, tmp_path: Path) -> None:
    assert all(one.what != NAME_REPEATED for one in problems(tmp_path, text))


def test_what_a_rich_spec_says_is_good_in_each_environment(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text(DEFAULTS)
    folder = write_model(tmp_path, "digits", spec=RICH)
    loaded = load_files([folder / "model.yaml"], environment="", every_environment=True)
    assert not loaded.problems
    assert loaded.environments == ("dev", "prod", "staging")


def test_models_that_start_each_other_in_a_circle_are_refused_and_the_others_are_not(tmp_path: Path) -> None:
    for name, above in {"a": "b", "b": "c", "c": "a", "leaf": "a", "two": "three", "three": "leaf"}.items():
        write_model(tmp_path, name, spec=f"model: {name}\nschedule:\n  assets: ['modelway://{above}']\n")
    loaded = load_specs(tmp_path)
    assert list(loaded.specs) == ["leaf", "three", "two"]
    assert [(one.file.parent.name, one.line, one.column) for one in loaded.problems] == [
        ("a", 3, 11),
        ("b", 3, 11),
        ("c", 3, 11),
    ]
    assert loaded.problems[0].what == "each version would start the next run, without end: a → c → b → a"
    # A run that is under way finds its own spec still.
    assert load_spec(tmp_path / "a").model == "a"


def test_a_circle_in_one_environment_alone_is_found(tmp_path: Path) -> None:
    write_model(
        tmp_path, "a", spec="model: a\nenvironments:\n  dev: {}\n  prod: {schedule: {assets: ['modelway://b']}}\n"
    )
    write_model(tmp_path, "b", spec="model: b\nschedule: {assets: ['modelway://a']}\n")
    write_model(tmp_path, "c", spec="model: c\nschedule: {assets: ['modelway://a']}\n")
    linted = load_files([tmp_path / name / "model.yaml" for name in "abc"], environment="", every_environment=True)
    assert list(linted.specs) == ["c"]
    assert [(one.file.parent.name, one.line, one.column) for one in linted.problems] == [("a", 4, 29), ("b", 2, 20)]
    assert linted.problems[0].what.startswith("in the environment prod, each version would start the next run")
    assert list(load_specs(tmp_path, environment="").specs) == ["a", "b", "c"]
    assert list(load_specs(tmp_path, environment="prod").specs) == ["c"]
