"""The JSON schema that editors check ``model.yaml`` by is the one of today, takes what lint takes, and completes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from modelway.spec.document.read import read_document
from modelway.spec.load import FILE_NAME, load_files, load_spec
from modelway.spec.model import ModelSpec
from modelway.spec.reference import reference_text
from modelway.spec.schema import json_schema, schema_text

from tests.unit.spec_samples import FULL, RICH

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "include" / "models" / "schema.json"
FILES = sorted([*ROOT.glob("include/models/*/model.yaml"), *ROOT.glob("tests/system/**/model.yaml")])
SPECS = [spec.folder / FILE_NAME for spec in load_files(FILES, environment="").specs.values()]
# Refused for what a schema cannot say: what lies in files, one key's meaning for another, counts of values.
BEYOND_A_SCHEMA = {
    *("container-keys", "docker-keys", "several-nodes", "storage-missing", "storage-node", "storage-nowhere"),
    *("storage-docker", "storage-uri-nodes", "kubernetes-queue", "kubernetes-patch", "freeze-command"),
    *(
        "image-backend",
        "image-backend-docker",
        "secret-without-key",
        "storage-two",
        "storage-uri-path",
        "retry-rules-memory",
        "retry-rules-more-memory",
    ),
    *("search-grid", "search-halving"),
    *("retry-rules-no-limit", "retry-rules-node-no-limit"),
    *("alias-bomb", "alias-in-itself", "alias-names", "alias-latest", "alias-same", "ambiguous", "assets", "asset-own"),
    *(
        "asset-spelling",
        "nul-character",
        "schedule-far",
        "asset-twice",
        "base-version",
        "code-broken",
        "code-elsewhere",
        "code-lacks",
        "code-missing",
        "cron-syntax",
    ),
    *("cron-never", "cron-random", "dataset-uri", "deadline-missing", "duplicate-key", "environment-of-defaults"),
    *("environment-takes-away", "extends-broken", "extends-circle", "extends-folder", "extends-itself", "extends-list"),
    *(
        "extends-long",
        "extends-missing",
        "extends-outside",
        "extends-value",
        "gates",
        "gates-of-versions",
        "image",
        "json",
        "image-tag-braces",
    ),
    *(
        "metric-names",
        "monitor-labels",
        "monitor-labels-template",
        "no-torch",
        "Folder",
        "template-ds",
        "torch",
        "image-base",
        "other-folder",
        "param-bounds",
        "param-bounds-and-choices",
        "param-choices",
        "param-twice",
        "pool",
    ),
    *("rollout-falls", "rollout-repeats", "schedule-backfill", "schedule-catchup", "schedule-empty", "schedule-start"),
    *("stage-twice", "template-escapes", "template-fails", "template-filter", "template-grows", "template-loop"),
    *("template-name", "template-param", "template-syntax", "template-without-cron", "timezone", "notifier-args"),
    *("notifier-path", "notifier-not-listed", "tag-and-merge", "serving-target", "serving-twice", "serving-sticky"),
    *("serving-engine", "serving-targets", "3d-shapes"),
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def values(text: str) -> Any:
    root, _ = read_document(text, file=Path("model.yaml"))
    return None if root is None else root.plain()


def test_the_shipped_schema_is_that_of_the_model() -> None:
    assert SHIPPED.read_text() == schema_text(), "run: modelway schema > include/models/schema.json"


@pytest.mark.parametrize("file", SPECS, ids=lambda file: file.parent.name)
def test_good_specs_are_taken(file: Path, validator: Any) -> None:
    validator.validate(values(file.read_text()))


def test_all_keys_and_short_forms_are_taken(validator: Any) -> None:
    for text in (FULL, RICH):
        validator.validate(values(text))
    validator.validate({"model": "m", "schedule": "@daily", "params": {"a": 1}, "datasets": {"b": "/data"}})


def test_a_spec_written_in_full_is_taken(validator: Any) -> None:
    validator.validate(load_spec(ROOT / "include" / "models" / "digits", environment="").to_dict())


def test_names_in_any_alphabet_are_taken_as_lint_takes_them(validator: Any) -> None:
    good = {"model": "m", "params": {"größe": 1, "_x1": 1, "名前": 1}, "schedule": " 0 3 * * * "}
    assert ModelSpec.model_validate(good).params.keys() == good["params"].keys()
    validator.validate(good)
    # As editors read it: JavaScript's \w and \d are of ASCII alone.
    pattern = json_schema()["$defs"]["Model"]["properties"]["params"]["propertyNames"]["pattern"]
    assert all(re.search(pattern, name, re.ASCII) for name in good["params"])
    assert not any(re.search(pattern, name, re.ASCII) for name in ("", "1x", "a b", "a-b", "a.b", "x" * 101))


@pytest.mark.parametrize(
    "change",
    [
        {"onwer": "me"},
        {"train": {"backnd": "local"}},
        {"train": {"backend": "lokal"}},
        {"train": {"stages": [{"name": "a", "epochs": 3}]}},
        {"params": {"a": {"default": 1, "min": 0}}},
        {"params": {"a": {"minimum": 0}}},
        {"datasets": {"a": {"url": "/data"}}},
        {"schedule": {"corn": "@daily"}},
        {"schedule": "daily"},
        {"notifications": {"on_failure": [{"args": {}}]}},
        {"environments": {"prod": {"onwer": "me"}}},
        {"environments": {"prod": {"model": "other"}}},
        {"environments": {"prod": {"environments": {}}}},
        {"environments": {"prod": {"train": {"stages": [{"params": {}}]}}}},
        {"environments": {"prod": {"retries": "3"}}},
        {"environments": {"Prod": {}}},
        {"extends": 3},
        {"extends": "a.yaml", "onwer": "me"},
        {"train": None},
        {"model": "Digits"},
        {"code": "model.txt"},
        {"retries": 101},
    ],
    ids=json.dumps,
)
def test_what_lint_refuses_in_one_key_the_schema_refuses(change: dict[str, Any], validator: Any) -> None:
    assert validator.is_valid({"model": "m"})
    assert not validator.is_valid({"model": "m"} | change)


@pytest.mark.parametrize(
    "change",
    [
        {
            "environments": {
                "prod": {"train": None, "params": {"a": {"minimum": 1}}, "datasets": {"b": {"digest": None}}}
            }
        },
        {"environments": {"prod": None}},
        {"extends": "../defaults.yaml", "train": None, "params": {"a": {"maximum": 3}, "b": None}},
        {"extends": "../defaults.yaml", "rollout": {"steps": None}},
    ],
    ids=json.dumps,
)
def test_parts_of_sections_are_taken_where_they_go_over_others(change: dict[str, Any], validator: Any) -> None:
    validator.validate({"model": "m"} | change)


def test_the_broken_specs_are_refused_unless_only_lint_can_tell(validator: Any) -> None:
    passed = set()
    for folder in sorted(ROOT.glob("tests/bad/*/")):
        try:
            found = values((folder / "model.yaml").read_text())
        except UnicodeDecodeError:
            continue
        if found is not None and validator.is_valid(found):
            passed.add(folder.name)
    assert passed <= BEYOND_A_SCHEMA


def test_each_key_is_described_and_each_default_is_one() -> None:
    schema = json_schema()
    for name, definition in schema["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"
            if "default" in value:
                within = {**value, "$defs": schema["$defs"]}
                fits = jsonschema.Draft202012Validator(within).is_valid(value["default"])
                assert fits, f"{name}.{key}: {value['default']!r}"


def test_each_key_of_the_model_is_in_the_schema() -> None:
    keys = {field.alias or name for name, field in ModelSpec.model_fields.items()}
    definitions = json_schema()["$defs"]
    assert set(definitions["Model"]["properties"]) == {*keys, "environments"}
    assert set(definitions["ExtendingModel"]["properties"]) == {*keys, "environments", "extends"}
    assert set(definitions["Environment"]["properties"]) == keys - {"model"}


def test_nothing_is_referred_to_that_is_not_there() -> None:
    schema = json_schema()
    used = set(re.findall(r'"#/\$defs/(\w+)"', schema_text()))
    assert used <= set(schema["$defs"])
    assert all(definition.get("additionalProperties") is False for definition in sections(schema))


def sections(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (definition for definition in schema["$defs"].values() if "properties" in definition)


def test_the_page_of_all_keys_is_the_one_of_today():
    page = (ROOT / "docs" / "spec.md").read_text()
    assert page == reference_text(), "run: modelway schema --format markdown > docs/spec.md"
    # Each key at each place, as the model class has it.
    for key in ("`retries`", "## train.stages[]", "## params.&lt;name>", "## verify.tolerance", "`retrain_on_event`"):
        assert key in page
