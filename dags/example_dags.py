"""The DAGs of dags/examples where MODELWAY_EXAMPLES=1; dags/.airflowignore hides the folder from Airflow."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

EXAMPLES = Path(__file__).parent / "examples"

# A task that starts gets its own DAG alone.
wanted = get_parsing_context().dag_id
for file in sorted(EXAMPLES.glob("*.py")) if os.environ.get("MODELWAY_EXAMPLES") == "1" else ():
    if wanted in (None, f"example-{file.stem.replace('_', '-')}"):
        spec = spec_from_file_location(f"modelway_examples_{file.stem}", file)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        globals().update({dag.dag_id: dag for dag in vars(module).values() if isinstance(dag, DAG)})
