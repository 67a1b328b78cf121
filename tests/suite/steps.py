"""The steps of `make test`: what each runs, how long it takes, and what it needs."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PYTEST = (sys.executable, "-m", "tests.suite.pytest_process", "-q")
#: the same in an environment that has emulators of S3 and of Google Cloud Storage
PYTEST_WITH_STORES = (sys.executable, "tests/object_store_environment.py", *PYTEST[1:])
#: the step that starts the cluster and prints where it is
START = "start"
#: the cores of the cluster's node: jobs of one step would wait for those of another, or take their place
NODE = "node"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that runs by itself, or pytest with some of the tests."""

    name: str
    command: tuple[str, ...] = PYTEST
    tests: tuple[str, ...] = ()
    """files and folders of tests; none where the command is no pytest"""
    ignored: tuple[str, ...] = ()
    """files of its folders that other steps run"""
    seconds: int
    """how long it takes about beside others on two cores: the longest start first"""
    waits: bool = False
    """whether it waits more than it computes, so that it runs beside a step per core"""
    needs: str = ""
    """a step that comes before, whose printed variables are this one's"""
    without: bool = False
    """whether it runs also where that step failed"""
    uses: str = ""
    """what one step at a time may use"""
    quiet: bool = False
    """whether it comes first, and only what computes runs beside it, on the other cores"""

    @property
    def words(self) -> tuple[str, ...]:
        """What is run."""
        return (*self.command, *self.tests, *(f"--ignore={file}" for file in self.ignored))


def contract(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/contract/test_{name}.py" for name in names)


def system(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/system/test_{name}.py" for name in names)


#: contracts that need this machine alone
HERE = (*PYTEST, "-m", "not cluster and not database and not vertex and not emulator")
#: the longest of them, about half of their time
LONGEST = contract("benches", "mlflow_exporter", "rollout_cut_off", "zoo")
#: these import torch
FREEZING = contract(
    *("freeze_kinds", "freeze_memory", "freeze_verify", "job_checkpoint", "job_predictions", "job_reports", "job_rows"),
    "verified_rows",
)
SERVING = contract(
    *(
        "endpoints",
        "gateway",
        "gateway_agent",
        "google_endpoints",
        "monitor",
        "rollout",
        "rollout_judged",
        "rollout_policies",
        "acceptance",
        "weights_in_place",
    ),
    *(
        "server",
        "server_bfloat16",
        "server_clients",
        "server_connections",
        "server_files",
        "server_fuzz",
        "server_grpc",
        "server_grpc_fuzz",
        "server_limits",
        "server_values",
    ),
)
#: jobs on a cluster; other files have jobs on an engine besides
KUBERNETES = tuple(
    f"tests/contract/{path.name}"
    for path in sorted((ROOT / "tests" / "contract").glob("test_kubernetes_*.py"))
    if path.stem != "test_kubernetes_object_store"
)
#: jobs on a fake of Vertex AI; the first files have those of other backends, too
VERTEX = (
    *contract("backends", "backend_environment", "benches"),
    *(f"tests/contract/{path.name}" for path in sorted((ROOT / "tests" / "contract").glob("test_vertex_*.py"))),
)
#: jobs on S3 and on Google Cloud Storage, and jobs of the cluster with them
OBJECTS = contract("object_store_job", "object_store_files")
STORED = contract("kubernetes_object_store")
#: endpoints on a Docker engine; the first file is that of this machine's endpoints, too
ENGINE = contract("endpoints", "docker_endpoint")
DEMO = system("demo")
#: each starts an Airflow of its own, to edit and break the specs that it sees
AUTHORING = system("authoring", "spec_faults")
#: they share the Airflow of tests/system/conftest.py; the second step has one of its own
LAB = system("faults", "examples", "exports", "page_browser", "sweep")
RELEASE = system("google_release", "release", "retraining")
#: they need a Docker engine and a Kubernetes cluster
CLUSTER = system("docker_run", "kubernetes_run", "kubernetes_rollout")
#: they need the engine and the images of START, and no cluster
IMAGES = system("docker_builder", "image_job", "served_image")
#: it runs docker-compose.yaml on the engine
DEPLOYMENT = ("tests/system/compose/test_deployment.py",)
#: they kill processes of tasks; the other one parts of Airflow and of the cluster, where Airflow's timeouts are short
PROCESSES = system("kill_processes")
MATRIX = system("kill_matrix")

STEPS = (
    Step(name="lint", command=(str(BIN / "ruff"), "check", "."), seconds=1),
    Step(name="format", command=(str(BIN / "ruff"), "format", "--check", "."), seconds=1),
    Step(name="types", command=(str(BIN / "mypy"),), seconds=119),
    Step(name="layers", command=(str(BIN / "lint-imports"), "--no-logo"), seconds=5),
    Step(name="unit", tests=("tests/unit",), seconds=208),
    Step(name="dags", tests=("tests/dags",), seconds=134),
    Step(name="docs", tests=("tests/docs",), seconds=90),
    Step(
        name="contract",
        command=HERE,
        tests=("tests/contract",),
        ignored=(*FREEZING, *SERVING, *LONGEST),
        seconds=1190,
        waits=True,
    ),
    Step(name="longest", command=HERE, tests=LONGEST, seconds=1100, waits=True),
    Step(name="vertex", command=(*PYTEST, "-m", "vertex"), tests=VERTEX, seconds=171, waits=True),
    Step(name="freezing", command=HERE, tests=FREEZING, seconds=372),
    Step(name="serving", command=HERE, tests=SERVING, seconds=1100, waits=True),
    Step(name="lineage", command=(*PYTEST, "-m", "database"), tests=("tests/contract",), seconds=700, waits=True),
    Step(name="objects", command=PYTEST_WITH_STORES, tests=OBJECTS, seconds=299),
    Step(name="lab", tests=LAB, seconds=598, waits=True),
    Step(name="release", tests=RELEASE, seconds=1004, waits=True),
    Step(
        name="system",
        tests=("tests/system",),
        ignored=(*LAB, *RELEASE, *DEMO, *AUTHORING, *CLUSTER, *IMAGES, *DEPLOYMENT, *PROCESSES, *MATRIX),
        seconds=1000,
        waits=True,
    ),
    Step(name="demo", tests=DEMO, seconds=672, waits=True),
    Step(name="authoring", tests=AUTHORING, seconds=479, waits=True),
    Step(name=START, command=("sh", "tests/system/start_cluster.sh"), seconds=52, waits=True),
    Step(
        name="docker",
        command=(*PYTEST, "-n", "2", "--dist", "loadgroup", "-m", "cluster"),
        tests=("tests/contract",),
        ignored=(*KUBERNETES, *STORED, *ENGINE),
        seconds=218,
        waits=True,
        needs=START,
    ),
    Step(
        name="engine",
        # The one process has the endpoint that most tests of its file share, the other those that each test makes.
        command=(*PYTEST, "-n", "2", "--dist", "loadgroup", "-m", "cluster"),
        tests=ENGINE,
        seconds=399,
        waits=True,
        needs=START,
    ),
    Step(
        name="kubernetes",
        # Two processes, each with files of its own: its tests wait for the cluster.
        command=(*PYTEST, "-n", "2", "--dist", "loadgroup"),
        tests=KUBERNETES,
        seconds=402,
        waits=True,
        needs=START,
        uses=NODE,
    ),
    Step(name="stores", command=PYTEST_WITH_STORES, tests=STORED, seconds=80, waits=True, needs=START, uses=NODE),
    Step(name="runs", tests=CLUSTER, seconds=195, waits=True, needs=START, uses=NODE),
    Step(name="images", tests=IMAGES, seconds=212, waits=True, needs=START),
    Step(name="deployment", tests=DEPLOYMENT, seconds=592, waits=True, needs=START),
    Step(
        name="processes",
        command=(*PYTEST, "-s"),
        tests=PROCESSES,
        seconds=188,
        waits=True,
        needs=START,
        without=True,
    ),
    Step(
        name="matrix",
        command=(*PYTEST, "-s"),
        tests=MATRIX,
        seconds=331,
        waits=True,
        needs=START,
        without=True,
        quiet=True,
    ),
)
