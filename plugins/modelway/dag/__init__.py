"""ModelSpec → DAG: the order of the stages and nothing else."""

from modelway.spec.collection import paused_collection

with paused_collection():
    from modelway.dag.build import build_dag, load_dags

__all__ = ["build_dag", "load_dags"]
