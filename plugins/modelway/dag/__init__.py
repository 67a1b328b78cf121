"""ModelSpec → DAG: the order of the stages, and only that."""

from modelway.dag.build import build_dag, load_dags

__all__ = ["build_dag", "load_dags"]
