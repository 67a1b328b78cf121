"""What Airflow's provider discovery asks an installed modelway for; imports nothing."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's static description."""
    return {
        "package-name": "modelway",
        "name": "modelway",
        "description": "Takes a machine-learning model from code to traffic: one YAML and one Python file per model.",
        "versions": ["0.1.0"],
        "config": {
            "modelway": {
                "description": "Where modelway finds and keeps things, the same in every component.",
                "options": {
                    "models": _folder("The folder of the models", "MODELWAY_MODELS", "/opt/airflow/include/models"),
                    "home": _folder("The folder of all that is kept here", "MODELWAY_HOME", "/srv/modelway"),
                },
            }
        },
    }


def _folder(what: str, variable: str, example: str) -> dict[str, Any]:
    return {
        "description": f"{what}; the environment variable {variable} goes before it.",
        "version_added": "0.1.0",
        "type": "string",
        "example": example,
        "default": None,
    }
