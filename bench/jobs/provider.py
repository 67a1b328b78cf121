"""The google provider's own operator, deferred, as it is: submits jobs, then follows them with its own trigger.

``python bench/jobs/provider.py JOBS`` runs in an environment with the provider, where the name of Google's address
leads to pipelines.py. Each job is submitted by the operator's ``execute``, until it defers; all of them are followed by
its triggers in this process, each made again from its data, as a triggerer does. At each line of its standard input it
prints its CPU seconds as JSON: until Airflow was imported, of the first job and of the others until all had deferred,
and until now.
"""

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from time import process_time
from typing import Any

#: Airflow writes its own log to the standard output
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class TaskInstance:
    """What the operator uses of its task."""

    dag_id = task_id = run_id = "bench"
    map_index = -1

    def xcom_push(self, **_: Any) -> None:
        """Keep nothing."""


def submit(number: int) -> Any:
    """Let the operator submit a job; return the trigger that it defers to."""
    from airflow.providers.google.cloud.operators.vertex_ai.custom_job import CreateCustomContainerTrainingJobOperator
    from airflow.sdk.exceptions import TaskDeferred

    operator = CreateCustomContainerTrainingJobOperator(
        task_id=f"train-{number}",
        project_id="p1",
        region="us-central1",
        display_name=f"train-{number}",
        container_uri="bench",
        command=["sleep", "1"],
        staging_bucket="gs://bench",
        base_output_dir="gs://bench/out",
        machine_type="n1-standard-4",
        replica_count=1,
        gcp_conn_id="bench",
        deferrable=True,
    )
    try:
        operator.execute({"ti": TaskInstance(), "task": operator})  # type: ignore[typeddict-item]
    except TaskDeferred as deferred:
        return deferred.trigger
    raise AssertionError("it did not defer")


async def follow(trigger: Any) -> None:
    """Run one trigger to its end."""
    path, data = trigger.serialize()
    assert path.endswith(".CustomContainerTrainingJobTrigger")
    async for _ in type(trigger)(**data).run():
        break


async def main(jobs: int) -> None:
    """Submit, follow and answer until the standard input ends."""
    import airflow.sdk  # noqa: F401

    imported = process_time()
    triggers = [submit(0)]
    first = process_time()
    print("one job is submitted", file=sys.stderr)
    # Google's library waits for seconds after each create.
    with ThreadPoolExecutor(64) as threads:
        triggers += threads.map(submit, range(1, jobs))
    used = {"imported": imported, "first": first, "submitted": process_time()}
    tasks = [asyncio.create_task(follow(trigger)) for trigger in triggers]
    while await asyncio.to_thread(sys.stdin.readline):
        answers.write(f"{json.dumps({**used, 'now': process_time()})}\n")
        answers.flush()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
