"""In which namespace an endpoint is: noted on this machine where it was applied, else found by its record's labels."""

from pathlib import Path

from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.cluster import token_of
from modelway.endpoints.kubernetes.record import CONFIG_MAP, PART
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes.labels import MANAGED
from modelway.platforms.kubernetes.objects import Objects

#: folder of the notes, which is no endpoint of another target
_FOLDER = ".kubernetes"


class Places:
    """The namespaces of this Airflow's endpoints."""

    def __init__(self, objects: Objects, root: Path, *, deployment: str) -> None:
        """Keep notes below ``root``; they may be lost."""
        self._objects, self._folder, self._deployment = objects, root / _FOLDER, deployment

    def find(self, name: str) -> str | None:
        """Return the namespace of an endpoint; None where there is none."""
        noted = self._noted(name)
        if noted and self._objects.find(CONFIG_MAP, noted, naming.record_object(name)):
            return noted
        found = self._recorded(naming.selector(name, part=PART))
        return next((each for each, _ in found), None)

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that are recorded on the cluster."""
        chosen = {**MANAGED, naming.PART: PART}
        found = self._recorded(",".join(f"{key}={value}" for key, value in chosen.items()))
        return tuple(sorted({name for _, name in found}))

    def remember(self, name: str, namespace: str) -> None:
        """Note the namespace of an endpoint."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            beside = self._folder / f".{name}.new"
            beside.write_text(namespace)
            beside.replace(self._folder / name)
        except OSError:
            # It is found by its labels.
            return

    def forget(self, name: str) -> None:
        """Forget an endpoint that is no more."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError:
            return

    def _noted(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text().strip() or None
        except OSError:
            return None

    def _namespaces(self) -> list[str]:
        noted = (path for path in self._folder.glob("*") if not path.name.startswith("."))
        return sorted({"default", *(path.read_text().strip() for path in noted)})

    def _recorded(self, selector: str) -> list[tuple[str, str]]:
        """Return namespace and name of the endpoints whose record has these labels; of all namespaces, if allowed."""
        try:
            found = self._objects.select(CONFIG_MAP, None, selector)
        except SubmitFailed as error:
            if error.kind is not FailureKind.FORBIDDEN:
                raise
            found = [one for each in self._namespaces() for one in self._objects.select(CONFIG_MAP, each, selector)]
        own = (each["metadata"] for each in found if token_of(each) == self._deployment)
        return [(metadata["namespace"], metadata["labels"][naming.ENDPOINT]) for metadata in own]
