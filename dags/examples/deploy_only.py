"""Only build and deploy: a version that is registered already gets an image and a predictor, and no training happens.

A version beside one that serves gets no traffic by this; add a PromoteModelOperator (see approval.py) to move it.
"""

from airflow.sdk import DAG, Param
from modelway.operators.build_image import BuildImageOperator
from modelway.operators.deploy import DeployModelOperator
from modelway.operators.find import FindVersionOperator

with DAG(
    dag_id="example-deploy-only",
    schedule=None,
    tags=["modelway", "example"],
    doc_md=__doc__,
    params={
        "model": Param("digits", type="string"),
        "version": Param("champion", type="string", description="A number, such as 3, an alias, or latest"),
    },
) as dag:
    version = FindVersionOperator(task_id="find", model="{{ params.model }}", version="{{ params.version }}").output
    image = BuildImageOperator(task_id="build_image", version=version).output
    DeployModelOperator(task_id="deploy", version=version, image=image)
