"""A human approves before traffic moves: the newest candidate is deployed, and promoted only when somebody says so.

Answer under *Required Actions* in Airflow, or with PATCH …/hitlDetails of its API: a program not within the first
seconds, which Airflow 3.3.2 takes for a lost task. No answer within a day means no.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.find import FindVersionOperator
from modelway.operators.promote import PromoteModelOperator

with DAG(
    dag_id="example-approval",
    schedule=None,
    tags=["modelway", "example"],
    doc_md=__doc__,
    # One run at a time: two rollouts of one endpoint would move each other's traffic.
    max_active_runs=1,
    params={"model": Param("digits", type="string")},
) as dag:
    version = FindVersionOperator(task_id="find", model="{{ params.model }}", version="candidate").output
    image = BuildImageOperator(task_id="build_image", version=version).output
    deployment = DeployModelOperator(task_id="deploy", version=version, image=image).output
    approve = ApprovalOperator(
        task_id="approve",
        subject="Promote {{ params.model }} version {{ ti.xcom_pull(task_ids='find')['version'] }}?",
        body="Its predictor is up: {{ ti.xcom_pull(task_ids='deploy')['url'] }}. "
        "Traffic now, in percent by version: {{ ti.xcom_pull(task_ids='deploy')['weights'] }}",
        defaults="Reject",
        response_timeout=timedelta(days=1),
    )
    promote = PromoteModelOperator(
        task_id="promote", version=version, deployment=deployment, steps=[10, 100], interval_seconds=10
    )
    deployment >> approve >> promote
