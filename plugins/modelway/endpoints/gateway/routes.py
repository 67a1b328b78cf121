"""The routes of a gateway: which servers there are, in which of its slots, with which shares."""

from dataclasses import dataclass

from modelway.endpoints.base import MAX_PREDICTORS

#: backends of the gateway; twice the predictors of one endpoint, so that all can be replaced at once
SLOTS = 2 * MAX_PREDICTORS


@dataclass(frozen=True, kw_only=True)
class Route:
    """One server behind a gateway."""

    version: int
    #: backend of the gateway that it is in
    slot: int
    #: ``host:port``; None while it is not to be used
    address: str | None
    weight: int
    #: False while it is being retired
    wanted: bool = True


@dataclass(frozen=True, kw_only=True)
class Routes:
    """All servers behind one gateway."""

    all: tuple[Route, ...]
    #: version that answers when another one cannot
    stable_version: int | None

    @property
    def wanted(self) -> list[Route]:
        """The routes that are not being retired, by version."""
        return sorted((route for route in self.all if route.wanted), key=lambda route: route.version)

    @property
    def stable(self) -> Route | None:
        """The route of the stable version."""
        return next((route for route in self.wanted if route.version == self.stable_version), None)
