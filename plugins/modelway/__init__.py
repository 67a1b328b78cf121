"""modelway: takes a machine-learning model from code to traffic on Apache Airflow."""
