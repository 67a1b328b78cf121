"""What stands for Airflow's own objects in the context of a task that a test executes."""

from types import SimpleNamespace
from typing import Any


class Ti(SimpleNamespace):
    """A task instance: what its task pushes is in ``pushed``, by key, as XCom has it."""

    start_date = None

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        return self.pushed[key]


class Store(dict[str, Any]):
    """Airflow's store of a task's state, which one task has for all of its attempts."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)
