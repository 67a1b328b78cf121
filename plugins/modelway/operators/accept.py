"""Accept a deployed version: the model's own tests, before it gets traffic."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import Handle, Job, JobStatus
from modelway.errors import ModelwayError, RolloutAborted
from modelway.hooks.lineage import lineage_from_airflow
from modelway.job.left_files import document_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import skip_when_blocked
from modelway.operators.context import actor, clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.serving import Deployment
from modelway.runs.messages.version import RegisteredVersion

if TYPE_CHECKING:
    from modelway.triggers.job import JobTrigger


class AcceptVersionOperator(JobOperator):
    """Run the model's ``accept(job, served)``, or a command, against a deployed version without traffic.

    When it fails, the version is withdrawn and its rollout aborted: the version before continues to serve, and nothing
    does where there was none. Not run for a rollback, nor where the run's rollout is over already.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param version: what RegisterModelOperator returned, or FindVersionOperator
    :param deployment: what DeployModelOperator returned
    :param job_params: given to the model's code
    :param searched: names of searched parameters: the code gets the values of the candidate that became the version
    :param seed: of the random generators
    :param command: run in place of ``accept``
    :param backend: where the job runs; the endpoint's address must be reachable from there
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{metrics}``: the numbers that ``accept`` returned.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        *("code", "version", "deployment", "job_params", "searched", "seed", "command"),
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "version": checks.VERSION,
        "deployment": checks.DEPLOYMENT,
        "job_params": checks.PARAMS,
        "searched": checks.OPTIONAL_NAMES,
        "seed": checks.SEED,
        "command": checks.COMMAND,
    }

    _shows_life_at = 0.0

    def __init__(
        self,
        *,
        code: Any,
        version: Any,
        deployment: Any,
        job_params: Any = None,
        searched: Any = None,
        seed: Any = 0,
        command: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.version = version
        self.deployment = deployment
        self.job_params = job_params
        self.searched = searched
        self.seed = seed
        self.command = command
        self.check_arguments()

    def run(self, context: Context) -> Any:
        """Run the job, unless there is nothing to accept."""
        skip_when_blocked(RegisteredVersion.from_xcom(self.version))
        rollout = lineage_from_airflow(self.settings.lineage_url).rollout(self._deployed.endpoint, run_key(context))
        if rollout is None or rollout.state != "running" or "rollback" in rollout.detail:
            self.log.info("there is nothing to accept: %s", rollout.state if rollout else "this run deployed nothing")
            return {"metrics": {}}
        return super().run(context)

    @property
    def _deployed(self) -> Deployment:
        return Deployment.from_xcom(self.deployment)

    def job(self, context: Context) -> Job:
        """Return the job: the model's code, the golden requests and the address."""
        plan, version = RunPlan.from_xcom(self.code), RegisteredVersion.from_xcom(self.version)
        return Job(
            model=version.model,
            run=run_key(context),
            key=job_key(context),
            stage="accept",
            action="accept",
            clear_number=clear_number(context),
            module=plan.code.module,
            command=tuple(self.command) if self.command else None,
            params={**plan.params, **(self.job_params or {}), **self._of_candidate(version)},
            seed=int(self.seed),
            code=plan.code.artifact,
            inputs={"archive": version.archive},
            endpoint={
                "url": self._deployed.version_url or self._deployed.url,
                "model": version.model,
                "version": version.version,
                **({"authorisation": dict(found)} if (found := self._deployed.authorisation) else {}),
            },
        )

    def _of_candidate(self, version: RegisteredVersion) -> dict[str, Any]:
        """Return the searched parameters as the version's record has them: a reused version is another run's."""
        if not self.searched:
            return {}
        detail = lineage_from_airflow(self.settings.lineage_url).version(version.model, version.version)
        selected = (each.params for each in detail.run.candidates if each.state == "selected")
        return {name: value for name, value in next(selected, {}).items() if name in self.searched}

    def trigger(self, context: Context, **job: Any) -> "JobTrigger":
        """Return a trigger that also shows that the rollout lives."""
        from modelway.triggers.acceptance import AcceptanceTrigger

        return AcceptanceTrigger(endpoint=self._deployed.endpoint, run=run_key(context), **job)

    def still_runs(self, context: Context) -> None:
        """Show that the rollout lives, where the worker follows the job to its end."""
        if time.monotonic() < self._shows_life_at:
            return
        from modelway.following.rollouts import LIFE_SECONDS, show_life

        self._shows_life_at = time.monotonic() + LIFE_SECONDS
        try:
            store = lineage_from_airflow(self.settings.lineage_url)
            show_life(store, endpoint=self._deployed.endpoint, run=run_key(context))
        except ModelwayError as error:
            self.log.warning("the rollout is not written now: %s", error)

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Any:
        """Return the metrics."""
        from modelway.job.acceptance import REPORT

        return {"metrics": document_below(folder, REPORT) or {}}

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        """Collect the metrics, or withdraw a version that is not accepted.

        :raises RolloutAborted: it is not
        """
        try:
            return super()._conclude(context, handle, status)
        except ModelwayError as error:
            ti = context["ti"]
            if error.retryable and ti.try_number <= ti.max_tries:
                raise
            raise self._withdrawn(context, error) from error

    def _withdrawn(self, context: Context, error: ModelwayError) -> RolloutAborted:
        """Return all traffic to the version before, stop this one, and return the error that says why."""
        from modelway.following.rollouts import abort_rollout

        version, deployed = RegisteredVersion.from_xcom(self.version).version, self._deployed
        cause = error.failure.cause if error.failure else error.what
        reason = f"version {version} is not accepted: {cause}"
        whose = {"endpoint": deployed.endpoint, "target": deployed.target, "run": run_key(context)}
        abort_rollout(self.settings, **whose, actor=actor(context), reason=reason, withdraw=True)
        refused = RolloutAborted(reason, where=f"endpoint {deployed.endpoint}", do=error.do)
        refused.failure = error.failure
        return refused
