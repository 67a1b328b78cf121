"""On which host a process is, where the tasks, the triggerer and the scheduler of one Airflow may be on several.

Airflow's LocalExecutor runs all tasks on the scheduler's machine, where everybody sees the processes of everybody. With
any other executor a task, its retry and its trigger may each be on another host, and a host has a name then.
"""

import os
import socket

from modelway.folders import airflow_option

#: the name of this host, where the one of its network changes, as that of a container that is made anew
HOST = "MODELWAY_HOST"
#: whether all hosts have the same home, such as a volume
SHARED_HOME = "MODELWAY_SHARED_HOME"
#: set by Airflow's KubernetesExecutor in the pod of a task, whose own executor says nothing
_IN_POD = "AIRFLOW_IS_K8S_EXECUTOR_POD"
#: Airflow's executors that run tasks on the scheduler's machine
_ONE_HOST = ("LocalExecutor", "SequentialExecutor")


def has_several_hosts() -> bool:
    """Whether Airflow's executors may run tasks on other hosts than the scheduler's."""
    if os.environ.get(_IN_POD):
        return True
    configured = airflow_option("core", "executor") or _ONE_HOST[0]
    # ``[team=]module.Class[:alias]``, several between commas and semicolons
    words = (word.strip().partition("=")[2] or word.strip() for word in configured.replace(";", ",").split(","))
    names = {word.partition(":")[0].rpartition(".")[2] for word in words if word}
    return not names.issubset(_ONE_HOST)


def has_shared_home() -> bool:
    """Whether the deployment says that all of its hosts have one home."""
    return os.environ.get(SHARED_HOME, "").strip().lower() in ("1", "true", "yes")


def own_host() -> str:
    """Return the name of this host; empty where all of the deployment is on one."""
    if not has_several_hosts():
        return ""
    return os.environ.get(HOST) or socket.gethostname()
