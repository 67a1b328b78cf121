"""The pages in Airflow's navigation and their JSON twins: they read the lineage and nothing else."""
