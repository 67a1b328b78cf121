"""An Airflow of one's own on this machine."""
