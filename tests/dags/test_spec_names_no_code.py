"""No key of a spec makes Airflow import or run what it names, beside a listed notifier."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization
from modelway.cli import main
from modelway.dag import load_dags
from modelway.spec.model import ModelSpec
from modelway.spec.references import ImportPath
from pydantic import BaseModel

from tests.unit.spec_samples import FULL, GOOD_CODE, RICH

MARKED = "marked_by_a_spec"


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from texts(item, (*path, key))


def changed(data: Any, path: tuple[Any, ...], value: str) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = changed(data[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("form", ["{}.run", "{}:run", "{}", "{{{{ {}.run() }}}}", "!!python/name:{}.run", "../{}"])
def test_nothing_that_a_key_names_is_imported(tmp_path, monkeypatch, capsys, form):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / f"{MARKED}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(*a, **k): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    # Nothing is found that an earlier run stored of the same specs.
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    models = tmp_path / "models"
    for sample in (FULL, RICH):
        data = {key: value for key, value in yaml.safe_load(sample).items() if key not in ("extends", "environments")}
        for number, path in enumerate([path for path in texts(data) if path != ("model",)]):
            name = f"m-{number}-{sample is RICH:d}"
            (models / name).mkdir(parents=True)
            spec = changed(data | {"model": name}, path, form.format(MARKED))
            (models / name / "model.yaml").write_text(yaml.safe_dump(spec))
            code = spec.get("code", f"{name.replace('-', '_')}.py")
            if "/" not in code:
                (models / name / code).write_text(GOOD_CODE)
    for dag in load_dags(models).values():
        DagSerialization.to_dict(dag)
    main(["lint", str(models)])
    capsys.readouterr()
    assert MARKED not in sys.modules
    assert not (tmp_path / "ran").exists()


def import_paths(section: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the keys of a section, and of those in it, that hold an import path."""
    for name, field in section.model_fields.items():
        key = f"{above}{field.alias or name}"
        if ImportPath.__metadata__[-1] in field.metadata or str(ImportPath) in str(field.annotation):
            yield key
        for inner in sections(field.annotation):
            yield from import_paths(inner, f"{key}.")


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from sections(argument)


def test_only_notifiers_are_import_paths():
    assert set(import_paths(ModelSpec)) == {
        f"notifications.{event}.notifier" for event in ("on_failure", "on_success", "on_deadline", "on_retraining")
    }
