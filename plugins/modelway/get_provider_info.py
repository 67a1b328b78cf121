"""What Airflow's provider discovery asks an installed modelway for; imports nothing."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's static description."""
    return {
        "package-name": "modelway",
        "name": "modelway",
        "description": "Takes a machine-learning model from code to traffic: one YAML and one Python file per model.",
        "versions": ["0.1.0"],
    }
