"""The commands with the file that each is in, so that a command imports its own file alone, and the help none."""

from typing import NamedTuple


class Indexed(NamedTuple):
    """A command: its group, the module of ``modelway.cli`` that adds it, and its line in the help."""

    group: str
    help: str


#: in the order of the help; a test compares it with what the groups add
COMMANDS = {
    "asset": Indexed("asset", "store files under a name, in versions, with references between them"),
    "backfill": Indexed("backfill", "plan runs of past intervals"),
    "demo": Indexed("demo", "start Airflow here and bring the model 'digits' to traffic"),
    "diff": Indexed(
        "diff", "show how two versions differ: parameters, code, data, environment, metrics, files, architecture"
    ),
    "doctor": Indexed("doctor", "check that a platform has what modelway needs"),
    "endpoint": Indexed("endpoint", "list, start and stop endpoints, show and set their weights"),
    "explain": Indexed("explain", "say why a run failed, and what to do"),
    "exports": Indexed("exports", "show what MLflow and OpenLineage have of the lineage, and send it"),
    "gc": Indexed("gc", "remove files that no retained version needs"),
    "image": Indexed("image", "build, inspect, pull, verify, compare and copy images of versions"),
    "init": Indexed("init", "write the DAG files and a first model into an Airflow's own folders"),
    "labels": Indexed("labels", "add true labels of requests, which the monitor compares"),
    "lineage": Indexed("lineage", "show what came out of what, and find a file by its content"),
    "lint": Indexed("lint", "check model specs"),
    "new": Indexed("new", "write a new model that works"),
    "release": Indexed("release", "roll a version out, such as to production"),
    "render": Indexed("render", "print a model's spec in full"),
    "schema": Indexed("render", "print all keys of model.yaml"),
    "reproduce": Indexed("reproduce", "run a version again from its record, and say whether the same comes out"),
    "rollback": Indexed("release", "give the traffic back to the version that served before"),
    "run": Indexed("run", "run a model's DAG here, without an Airflow server"),
    "serving": Indexed("serving", "show which versions serve where, whether they answer, since when, by whom"),
    "sweep": Indexed("sweep", "show the candidates of which a version is the best"),
    "versions": Indexed("versions", "list the versions of a model, newest first"),
    "show": Indexed("versions", "show the whole record of a version"),
}
