"""What one user may read of the lineage: the versions that runs of their DAGs made."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from modelway.errors import UnknownEndpoint, UnknownModel, UnknownRun, UnknownVersion
from modelway.lineage.compare.difference import difference
from modelway.lineage.records.answers import FileHolder, LineageGraph, ServingRecord
from modelway.lineage.records.difference import DiffRecord
from modelway.lineage.records.monitoring import MonitorSlice, RetrainRequest
from modelway.lineage.records.version import AliasChange, ModelSummary, RunAccount, VersionDetail, VersionSummary
from modelway.lineage.store import Lineage
from modelway.ui.drift import Monitored
from modelway.ui.endpoint_view import EndpointView, environments_by_endpoint
from modelway.ui.health import Health, Places, by_model, endpoints_of, health_by_model

#: versions that a page of a model's list shows
LISTED = 50
#: changes of weights, rollouts and checks of the monitor that the page of an endpoint shows
CHANGES, ROLLOUTS, COUNTED = 200, 20, 200
#: checks of the monitor that the page of drift draws, and requests to retrain that it lists
CHECKS, REQUESTS = 1_000, 50
#: moves of aliases that the page of a model shows
MOVES = 50


class ReadableLineage:
    """What one user may read of the lineage in one request; everything else does not exist for them."""

    def __init__(self, find: Callable[[], Lineage | None], dags: frozenset[str]) -> None:
        """Show what runs of ``dags`` made.

        :param find: opens the lineage, when it is read first; None: nothing was registered yet
        """
        self._find = find
        self._dags = dags
        self._models: dict[str, ModelSummary] = {}

    @cached_property
    def _lineage(self) -> Lineage | None:
        return self._find()

    def at_once(self) -> AbstractContextManager[None]:
        """Let all reads of a block share one connection; nothing may be written within it."""
        return self._lineage.reading_once() if self._lineage else nullcontext()

    @cached_property
    def models(self) -> list[ModelSummary]:
        """The models with a readable version, by name."""
        found = self._lineage.models(dags=self._dags) if self._lineage else []
        self._models.update((model.name, model) for model in found)
        return found

    def model(self, name: str) -> ModelSummary:
        """Return one of the models.

        :raises UnknownModel: the user may read no version of it, or there is none
        """
        return self._open(name)[1]

    def _open(self, name: str) -> tuple[Lineage, ModelSummary]:
        """Return a model with the lineage that has it; raises as ``model`` does."""
        what = f"there is no model '{name}' that you may read"
        if self._lineage is None:
            raise UnknownModel(what, given=name)
        if name not in self._models:
            try:
                self._models[name] = self._lineage.model(name, dags=self._dags)
            except UnknownModel as error:
                raise UnknownModel(what, known=error.known, given=name) from None
        return self._lineage, self._models[name]

    def versions(self, model: str, *, listed: int = LISTED, before: int | None = None) -> list[VersionSummary]:
        """Return the newest readable versions of a model, newest first, or the newest of those before a number.

        :raises UnknownModel: there is none that the user may read
        """
        found: list[VersionSummary] = []
        if self._lineage is not None:
            with suppress(UnknownModel):
                found = self._lineage.versions(model, limit=listed, before=before, dags=self._dags)
        if not found:
            # Its message names no model that the user may not read.
            self._open(model)
        return found

    def newest(self, names: Sequence[str], *, each: int) -> dict[str, list[VersionSummary]]:
        """Return so many of the newest readable versions of some models, newest first, by the model's name."""
        if self._lineage is None:
            return {}
        dags = {dag for name in names for dag in self.model(name).dags}
        return self._lineage.newest(names, each=each, dags=dags)

    def params(self, model: str, numbers: Collection[int]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the parameters of readable versions of a model, by number and stage.

        :param numbers: of versions that were read, so that the user may
        """
        return self._open(model)[0].params(model, numbers)

    def before(self, model: str, number: int) -> int | None:
        """Return the readable version before another one; None: there is none, or not among the newest."""
        lineage, found = self._open(model)
        try:
            return lineage.find(model, str(number - 1), dags=found.dags)
        except UnknownVersion:
            return next((each.number for each in self.versions(model) if each.number < number), None)

    def version(self, model: str, wanted: str) -> VersionDetail:
        """Return the record of a readable version by number, ``v3``, alias or ``latest``.

        :raises UnknownModel: there is no such model that the user may read
        :raises UnknownVersion: the model has no such version that the user may read
        """
        lineage, summary = self._open(model)
        found = lineage.version(model, lineage.find(model, wanted, dags=summary.dags))
        # A run of another DAG may have reused the version: users who may not read that DAG do not see its runs.
        events = tuple(event for event in found.events if event.detail.get("dag_id", found.run.dag_id) in self._dags)
        return replace(found, events=events)

    def number(self, model: str, wanted: str) -> int:
        """Return the number of a readable version; raises as ``version`` does."""
        lineage, found = self._open(model)
        return lineage.find(model, wanted, dags=found.dags)

    def verifications(self, names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Mapping[str, Any] | None]:
        """Return what readable versions were verified on, by model and number."""
        return self._lineage.verifications(list(names)) if self._lineage else {}

    def difference(self, model: str, a: str, b: str) -> DiffRecord:
        """Return how two readable versions of a model differ; raises as ``version`` does."""
        return difference(self.version(model, a), self.version(model, b))

    def graphs(self, model: str, wanted: str, *, steps: int, most: int) -> tuple[LineageGraph, LineageGraph]:
        """Return what is upstream and downstream of a readable version; raises as ``version`` does.

        :param steps: how far to go
        :param most: how many nodes each has at most
        """
        graph, number = self._open(model)[0].graph, self.number(model, wanted)
        name, limits = f"version:{model}@{number}", {"steps": steps, "most": most}
        return graph.upstream(name, dags=self._dags, **limits), graph.downstream(name, dags=self._dags, **limits)

    def neighbours(self, node: str, *, direction: str, skip: int, most: int) -> LineageGraph:
        """Return what is next to a node of a lineage graph, by its id, as far as the user may read it.

        :raises UnknownVersion: there is no such node that the user may read
        """
        unknown = UnknownVersion(f"there is nothing in the lineage called '{node}' that you may read", given=node)
        if self._lineage is None or ":" not in node:
            raise unknown
        graph, dags = self._lineage.graph, self._dags
        try:
            found = graph.neighbours(node, direction=direction, skip=skip, most=most, dags=dags)
        except UnknownVersion:
            # Its message would list models that the user may not read.
            raise unknown from None
        if not found.roots:
            raise unknown
        return found

    def number_at(self, model: str, wanted: str, at: datetime | None) -> int:
        """Return the readable version that an alias points at, or that is the latest: now, or at a time.

        :raises UnknownModel: there is no such model that the user may read
        :raises UnknownVersion: the alias pointed nowhere then, or there was no version yet
        """
        lineage, found = self._open(model)
        if at is None:
            return self.version(model, wanted).summary.number
        return lineage.find_at(model, wanted, at, dags=found.dags)

    def serving(self, *, at: datetime | None, after: str = "", most: int | None = None) -> list[ServingRecord]:
        """Return which readable versions serve where, or served at a time.

        :param after: only of endpoints whose names come after this one
        :param most: of so many endpoints at most, by name
        """
        if self._lineage is None:
            return []
        return self._lineage.serving(at=at, dags=self._dags, after=after, most=most)

    @cached_property
    def places(self) -> Places:
        """Which readable versions serve where now, by model."""
        return by_model(self.serving(at=None))

    def serving_by_model(self, names: Collection[str]) -> dict[str, list[ServingRecord]]:
        """Return which readable versions of some models serve where, by model."""
        return by_model(self._lineage.serving(among=names, dags=self._dags)) if self._lineage and names else {}

    def health(self, names: Collection[str], places: Places) -> dict[str, list[Health]]:
        """Return how some of ``models`` are where they serve, by model, as ``places`` are."""
        if self._lineage is None or not names:
            return {}
        dags = {dag for name in names for dag in self.model(name).dags}
        endpoints = endpoints_of(names, places)
        checks = self._lineage.monitoring.last_checks(endpoints)
        rollouts = self._lineage.newest_rollouts(endpoints, dags=dags)
        return health_by_model(names, places, checks=checks, rollouts=rollouts)

    def alias_history(self, model: str) -> list[AliasChange]:
        """Return the newest moves of a model's aliases to readable versions, newest first.

        :raises UnknownModel: there is none that the user may read
        """
        lineage, found = self._open(model)
        return lineage.alias_history(model, dags=found.dags, limit=MOVES)

    def retrainings(self, model: str) -> list[RetrainRequest]:
        """Return the newest requests to retrain a model because of a readable version, newest first.

        :raises UnknownModel: there is none that the user may read
        """
        found = self._open(model)[0].monitoring.requests(model, limit=REQUESTS)
        seen = self._readable_of(model, {each.version for each in found})
        return [each for each in found if each.version in seen]

    def monitored(self, model: str) -> Monitored:
        """Return what the monitor found of a model's readable versions; raises as ``retrainings`` does."""
        return Monitored(checks=self._checks(model, limit=CHECKS), requests=tuple(self.retrainings(model)))

    def _checks(self, model: str, *, limit: int) -> tuple[MonitorSlice, ...]:
        checks = self._open(model)[0].monitoring.checks(model, limit=limit)
        seen = self._readable_of(model, {each.version for each in checks})
        return tuple(each for each in checks if each.version in seen)

    def _readable_of(self, model: str, numbers: Collection[int]) -> set[int]:
        lineage, found = self._open(model)
        return lineage.existing(model, numbers, dags=found.dags)

    def endpoint(self, name: str) -> EndpointView:
        """Return what a user may read of an endpoint.

        :raises UnknownEndpoint: no version that the user may read serves or has served there
        """
        changes = self._lineage.weight_history(name, dags=self._dags, limit=CHANGES) if self._lineage else []
        if self._lineage is None or not changes:
            raise UnknownEndpoint(f"there is no endpoint '{name}' that you may read", given=name)
        shares = self._lineage.serving(endpoint=name, dags=self._dags)
        rollouts = self._lineage.rollouts(name, dags=self._dags, limit=ROLLOUTS)
        view = EndpointView(name=name, shares=tuple(shares), changes=tuple(changes), rollouts=tuple(rollouts))
        checks = self._checks(view.model, limit=COUNTED)
        return replace(view, checks=tuple(each for each in checks if each.endpoint == name))

    def served(self, view: EndpointView) -> tuple[int | None, int | None]:
        """Return the version that took over an endpoint last, and the one before it; None: none that one may read."""
        served = self._lineage.served_before(view.name) if self._lineage else (None, None)
        readable = self._readable_of(view.model, {each for each in served if each})
        current, before = (each if each in readable else None for each in served)
        return current, before

    def actions(self, view: EndpointView) -> dict[str, Any]:
        """Return what can be done with the traffic of an endpoint; see ``EndpointView.actions``.

        Empty where the newest version's spec has no such endpoint: a run would move the traffic of another one.
        """
        assert self._lineage is not None
        model = view.model
        spec = self._lineage.spec(model, self.model(model).latest)
        environments = environments_by_endpoint(spec, model)
        if view.name not in environments:
            return {}
        current, before = self.served(view)
        section = spec.get("rollout")
        when_busy = str(section.get("when_busy") or "wait") if isinstance(section, Mapping) else "wait"
        return view.actions(current=current, before=before, environment=environments[view.name], when_busy=when_busy)

    def accounts(self, dag: str, run: str) -> list[RunAccount]:
        """Return how a run of a readable DAG went, by model; empty where nothing of it is recorded yet."""
        if self._lineage is None or dag not in self._dags:
            return []
        return self._lineage.accounts_of_run(dag_id=dag, run_id=run)

    def made_by_run(self, dag: str, run: str, *, what: str) -> tuple[str, int] | str | None:
        """Return the version that a run of a readable DAG made or moves, or the endpoint; None: none yet, or several.

        :param what: ``version``, which is returned with its model, or ``endpoint``
        """
        if self._lineage is None or dag not in self._dags:
            return None
        moved = self._lineage.rollouts_of_run(f"{dag}/{run}", dags=self._dags)
        if what == "endpoint":
            names = {each.endpoint for each in moved if self._lineage.weight_history(each.endpoint, dags=self._dags)}
            return names.pop() if len(names) == 1 else None
        found = {(each.model, each.version) for each in moved}
        found |= {(each.model, each.version) for each in self.accounts(dag, run) if each.version is not None}
        return found.pop() if len(found) == 1 else None

    def account_of(self, wanted: str, *, model: str | None) -> RunAccount:
        """Return how a run of a readable DAG went: the run with this id or, for a model's name, its last run.

        :raises UnknownRun: there is none that the user may read, or several
        """
        if self._lineage is None:
            raise UnknownRun(f"there is no run '{wanted}' that you may read", given=wanted)
        return self._lineage.account(wanted, model=model, dags=self._dags)

    def find_by_digest(self, digest: str) -> list[FileHolder]:
        """Return which readable versions, runs, data sets, images and assets have a content, ``sha256:<hex>``."""
        return self._lineage.graph.find_by_digest(digest, dags=self._dags) if self._lineage else []
