"""Airflow Connections as plain settings."""
