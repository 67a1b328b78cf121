"""The routes of a gateway: which predictors there are, with which servers, in which of its slots, with which shares."""

from dataclasses import dataclass, field

from modelway.endpoints.base import MAX_PREDICTORS, Sticky

#: backends of the gateway; twice the predictors of one endpoint, so that all can be replaced at once
SLOTS = 2 * MAX_PREDICTORS
#: servers of one slot
MAX_REPLICAS = 8


@dataclass(frozen=True, kw_only=True)
class Route:
    """One predictor behind a gateway."""

    #: of the predictor
    name: str
    #: by which URLs name it
    version: int
    #: backend of the gateway that it is in
    slot: int
    #: ``host:port`` of each of its servers, by replica; None for one that is not to be used
    addresses: tuple[str | None, ...]
    weight: int
    #: the model whose version it is, where that is not the endpoint's
    model: str | None = None
    #: False while it is being retired
    wanted: bool = True


@dataclass(frozen=True, kw_only=True)
class Routes:
    """All predictors behind one gateway, in the order in which shares are given out to users."""

    all: tuple[Route, ...]
    #: name of the predictor that answers when another one cannot
    stable_name: str | None
    sticky: Sticky = field(default_factory=Sticky)

    @property
    def wanted(self) -> list[Route]:
        """The routes that are not being retired."""
        return [route for route in self.all if route.wanted]

    @property
    def stable(self) -> Route | None:
        """The route of the stable predictor."""
        return next((route for route in self.wanted if route.name == self.stable_name), None)
