"""The one file that Airflow's plugin loader runs; an installed ``modelway`` is loaded by its entry point instead.

Of two plugins with one name Airflow shows an import error on its pages.
"""

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="modelway"):
    from modelway.plugin import ModelwayPlugin as ModelwayPlugin
