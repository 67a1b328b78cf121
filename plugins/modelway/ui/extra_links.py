"""The buttons that a task has in Airflow's UI: to the page that shows its run, its version or its endpoint.

Airflow asks the plugin for them in the api-server, when somebody opens a task: they are there while it runs, and cost a
DAG and its tasks nothing. Nothing is imported for them, since Airflow loads the plugin in every process.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

_RUN, _VERSION, _ENDPOINT = "Live run", "Version", "Endpoint"
#: the operators that have links, by the module that each is in: all have the run's
OPERATORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "accept": ("AcceptVersionOperator", (_VERSION, _ENDPOINT)),
    "build_image": ("BuildImageOperator", (_VERSION,)),
    "choose_candidates": ("ChooseCandidatesOperator", ()),
    "deploy": ("DeployModelOperator", (_VERSION, _ENDPOINT)),
    "divide": ("DivideCheckpointsOperator", ()),
    "draw_candidates": ("DrawCandidatesOperator", ()),
    "evaluate": ("EvaluateCheckpointOperator", ()),
    "evaluate_version": ("EvaluateVersionOperator", ()),
    "find": ("FindVersionOperator", ()),
    "freeze": ("FreezeModelOperator", ()),
    "package": ("PackageCodeOperator", ()),
    "plan": ("PlanRunOperator", ()),
    "promote": ("PromoteModelOperator", (_VERSION, _ENDPOINT)),
    "register": ("RegisterModelOperator", (_VERSION,)),
    "select": ("SelectCheckpointOperator", ()),
    "select_candidate": ("SelectCandidateOperator", ()),
    "train": ("TrainModelOperator", ()),
    "verify": ("VerifyModelOperator", (_VERSION,)),
}


class PageLink:
    """A link of Airflow's, see ``airflow.sdk.BaseOperatorLink``, to a page of the plugin."""

    def __init__(self, name: str, *, base: str, to: str = "") -> None:
        """Lead to what a run has made.

        :param base: the URL of the pages
        :param to: ``version``, ``endpoint``, or empty for the run itself
        """
        self.name = name
        self._base, self._to = base, to
        #: Airflow compares names and modules alone
        self.operators = [
            type(kind, (), {"__module__": f"modelway.operators.{module}"})
            for module, (kind, links) in OPERATORS.items()
            if name == _RUN or name in links
        ]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL for a task instance."""
        query = {"dag": ti_key.dag_id, "run": ti_key.run_id} | ({"to": self._to} if self._to else {})
        return f"{self._base}/of-run?{urlencode(query)}"


def page_links(base: str) -> list[PageLink]:
    """Return the links, for the pages at a URL."""
    return [
        PageLink(_RUN, base=base),
        PageLink(_VERSION, base=base, to="version"),
        PageLink(_ENDPOINT, base=base, to="endpoint"),
    ]
