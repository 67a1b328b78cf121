"""A local Airflow for the command, the tests and the benchmarks."""
