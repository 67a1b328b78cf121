"""The buttons of a task in Airflow's UI: which operators have which."""

import inspect
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import modelway.operators
from modelway.operators.base import ModelwayOperator
from modelway.ui.extra_links import OPERATORS, page_links


def test_every_operator_that_a_dag_has_is_named_by_its_module() -> None:
    (folder,) = modelway.operators.__path__
    found = set()
    for path in Path(folder).glob("[!_]*.py"):
        module = import_module(f"modelway.operators.{path.stem}")
        for name, kind in inspect.getmembers(module, inspect.isclass):
            is_own = kind.__module__ == module.__name__ and issubclass(kind, ModelwayOperator)
            if is_own and not inspect.isabstract(kind):
                found.add((path.stem, name))
    of_all_models = ("monitor", "MonitorModelsOperator")
    assert {(module, name) for module, (name, _) in OPERATORS.items()} == found - {of_all_models}


def test_a_link_names_the_run_whatever_its_id_is() -> None:
    run, version, endpoint = page_links("/team/modelway")
    key = SimpleNamespace(dag_id="digits", run_id="manual__2026-01-01T00:00:00+00:00")
    page = "/team/modelway/of-run?dag=digits&run=manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    assert run.get_link(None, ti_key=key) == page
    assert endpoint.get_link(None, ti_key=key) == f"{page}&to=endpoint"
    assert ("RegisterModelOperator", "modelway.operators.register") in {
        (each.__name__, each.__module__) for each in version.operators
    }
    assert "RegisterModelOperator" not in {each.__name__ for each in endpoint.operators}
