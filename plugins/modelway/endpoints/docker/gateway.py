"""The gateway's container: created once, then changed by the agent in it; its files are in the endpoint's volume."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelway.endpoints.docker.containers import BODY, FORM, Key, agent_body, gateway_body
from modelway.endpoints.docker.state import FILE
from modelway.endpoints.gateway.commands import Command
from modelway.endpoints.gateway.container import (
    FOLDER,
    PATIENCE,
    PORT,
    SOCKET,
    agent_command,
    gateway_image,
    in_container,
    read_answer,
)
from modelway.endpoints.gateway.haproxy import config, plan
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.gateway.running import RunningGateway
from modelway.endpoints.gateway.runtime_socket import Runtime
from modelway.errors import EndpointNotReady, PortTaken, SubmitFailed
from modelway.platforms.docker.engine import Engine, Object
from modelway.platforms.docker.files import read_file

#: where ports that nobody named are: below those that systems give to clients
_FIRST_PORT, _PORTS = 20_000, 12_000
_ATTEMPTS = 20
_TAKEN = ("port is already allocated", "address already in use")


class Changed(EndpointNotReady):
    """Somebody else changed the endpoint meanwhile."""


@dataclass(frozen=True, kw_only=True)
class GatewayAnswers:
    """What a gateway's container answered."""

    #: status and text by page; 0 and nothing where nothing answered
    pages: list[tuple[int, str]]
    #: by command
    answers: list[str]


class DockerGateway(RunningGateway):
    """The gateway of one endpoint: a container."""

    interval = 0.1

    def __init__(self, engine: Engine, key: Key) -> None:
        """Be the gateway of the endpoint ``key``, whether or not its container is there."""
        super().__init__(key.endpoint)
        self.engine = engine
        self.key = key
        self._answered: str | None = None

    @property
    def runtime(self) -> Runtime:
        """The runtime interface."""
        return Runtime(in_container(self._execute))

    def inspect(self) -> Object | None:
        """Return the container as the engine describes it, None when there is none."""
        return self.engine.inspect(self.key.gateway)

    @property
    def runs(self) -> bool:
        """Whether the container runs."""
        found = self.inspect()
        return found is not None and _runs(found)

    @property
    def began(self) -> str | None:
        """What distinguishes this start of HAProxy, None when there is no container."""
        found = self.inspect()
        return f"{found['Id']} {found['State'].get('StartedAt')}" if found else None

    def has_form(self, routes: Routes) -> bool:
        """Whether there is a container, with a configuration of the form that these routes have."""
        found = self.inspect()
        return found is not None and found["Config"]["Labels"].get(FORM) == _form(routes)

    def read(self) -> str | None:
        """Return the document of the state, None when there is none."""
        if self.inspect() is not None:
            return read_file(self.engine, self.key.gateway, f"{FOLDER}/{FILE}")
        if not self.engine.volumes(self.key.labels("gateway")):
            return None
        # Somebody removed the container: its files are still there.
        holder = self.engine.create(agent_body(self.key, image=gateway_image(), command=["true"]), self._once())
        try:
            return read_file(self.engine, holder, f"{FOLDER}/{FILE}")
        finally:
            self.engine.remove(holder)

    def store(
        self,
        files: Mapping[str, str],
        *,
        unless_changed: Mapping[str, str],
        commands: Sequence[Command] = (),
        up: Sequence[Sequence[str]] = (),
    ) -> None:
        """Replace files of the volume and send commands to HAProxy: one execution in the gateway's container.

        :param commands: for a gateway that runs
        :param up: servers that it waits for a moment, see ``agent.wait_up``
        :raises Changed: when a file is not as it must be: nothing was done
        :raises EndpointNotReady: when HAProxy refused a command or does not answer; the files are replaced
        """
        argv = agent_command(
            files=files, unless_changed=unless_changed, commands=commands, up=up, patience=PATIENCE if up else 0.0
        )
        answer = read_answer(self._execute(argv) if self.runs else self._run_once(argv))
        if answer.get("changed"):
            raise Changed("somebody else changed it meanwhile", where=f"endpoint {self.name}", do="Apply it again")
        Runtime(lambda _: _texts(answer)).run(commands)

    def query(self, *, urls: Sequence[str] = (), commands: Sequence[str] = (), patience: float = 0.0) -> GatewayAnswers:
        """Return what pages of the endpoint's network and HAProxy answer: one execution in the gateway's container.

        :param patience: seconds to wait for all pages to answer with status 200
        :raises EndpointNotReady: when the gateway does not run
        """
        argv = agent_command(pages=urls, commands=[(command, None) for command in commands], patience=patience)
        answer = read_answer(self._execute(argv))
        statuses, texts, answers = (answer.get(key) for key in ("statuses", "pages", "answers"))
        if not (isinstance(statuses, list) and isinstance(texts, list) and isinstance(answers, list)):
            raise self._silent(f"its agent answered {answer}")
        pages = [(int(status), str(text)) for status, text in zip(statuses, texts, strict=True)]
        return GatewayAnswers(pages=pages, answers=[str(text) for text in answers])

    def ensure(self, routes: Routes, *, host: str, port: int | None, known_port: int | None, ip: str) -> int:
        """Run the container and return the port that it is published at; another one only if it must be another.

        :param port: the one that the spec names
        :param known_port: the one that it had before
        :raises PortTaken: when the port that was named is used on the engine's machine
        :raises EndpointNotReady: when HAProxy does not start
        """
        form, image = _form(routes), self._image()
        for candidate in self._ports(port, known_port):
            body = gateway_body(self.key, image=image, host=host, port=candidate, ip=ip, form=form)
            if self._start(body):
                # One that has answered since it started is not waited for again.
                if (began := self.began) is None or began != self._answered:
                    self._wait_answer()
                    self._answered = began
                return candidate
            if port is not None:
                break
        raise self._port_in_use(host, port)

    def stop(self) -> None:
        """End HAProxy after the requests in progress; the container stays."""
        self.engine.stop(self.key.gateway, grace_seconds=5)

    def remove(self) -> None:
        """Remove the container."""
        self.stop()
        self.engine.remove(self.key.gateway)

    def _image(self) -> tuple[str, str]:
        """Return the name and the id of the gateway's image, pulled where the engine lacks it."""
        name = gateway_image()
        try:
            self.engine.pull_missing(name)
        except SubmitFailed as error:
            raise EndpointNotReady(
                f"the engine has no image of the gateway: {error.what}",
                where=f"endpoint {self.name}",
                do="Run `make images ARGS=gateway` on the engine, or name another image in MODELWAY_GATEWAY_IMAGE",
            ) from error
        return name, str((self.engine.find_image(name) or {}).get("Id"))

    def _ports(self, named: int | None, known: int | None) -> Iterator[int]:
        """Yield the ports to try: a deleted endpoint that is applied again has its old one, if it is free."""
        if named is not None:
            yield named
            return
        if known is not None:
            yield known
        first = int(hashlib.sha256(self.key.name.encode()).hexdigest(), 16)
        for attempt in range(_ATTEMPTS):
            yield _FIRST_PORT + (first + 7919 * attempt) % _PORTS

    def _start(self, body: Mapping[str, Any]) -> bool:
        """Run a container of that body; False when its port is taken."""
        found = self.inspect()
        if found is not None and found["Config"]["Labels"].get(BODY) != body["Labels"][BODY]:
            self.remove()
            found = None
        if found is not None and _runs(found):
            return True
        container = found["Id"] if found else self.engine.create(body, self.key.gateway)
        try:
            if found is not None and found["State"].get("Paused"):
                self.engine.resume(container)
            self.engine.start(container)
            error = ((self.inspect() or {}).get("State") or {}).get("Error") or ""
        except SubmitFailed as refused:
            error = refused.what
        if not error:
            return True
        self.engine.remove(container)
        if any(words in error for words in _TAKEN):
            return False
        raise EndpointNotReady(f"the engine could not start the gateway: {error}", where=f"endpoint {self.name}")

    def _wait_answer(self) -> None:
        end = time.monotonic() + self.patience
        while not self.answers:
            if time.monotonic() > end:
                lines = self.engine.last_lines(self.key.gateway, lines=12).decode(errors="replace")
                raise EndpointNotReady(
                    f"the gateway did not start; the end of its log:\n{lines}", where=f"endpoint {self.name}"
                )
            time.sleep(self.interval)

    def _execute(self, argv: Sequence[str]) -> str:
        try:
            status, printed = self.engine.execute(self.key.gateway, argv)
        except SubmitFailed as error:
            raise self._silent(error.what) from error
        if status:
            raise self._silent(printed.strip()[-300:] or f"its agent ended with status {status}")
        return printed

    def _run_once(self, argv: list[str]) -> str:
        """Run the agent in a container of its own."""
        once = self.engine.create(agent_body(self.key, image=self._image()[0], command=argv), self._once())
        try:
            self.engine.start(once)
            self.engine.wait(once, seconds=60)
            return self.engine.last_lines(once, lines=50).decode(errors="replace")
        finally:
            self.engine.remove(once)

    def _once(self) -> str:
        return f"{self.key.name}-state-{time.time_ns():x}"

    def _silent(self, why: str) -> EndpointNotReady:
        return EndpointNotReady(
            f"the gateway does not answer ({why})", where=f"endpoint {self.name}", do="Apply the endpoint again"
        )

    def _port_in_use(self, host: str, port: int | None) -> PortTaken:
        holders = [
            one["Names"][0].lstrip("/")
            for one in self.engine.containers({})
            if any(published.get("PublicPort") == port for published in one.get("Ports") or ())
        ]
        holder = f"the container {holders[0]}" if holders else "another program"
        return PortTaken(
            f"port {port} of {host} is used by {holder} on the engine's machine",
            do="Stop that program, name another port, or none for a free one",
        )


def files_of(routes: Routes) -> dict[str, str]:
    """Return the files by which HAProxy starts with these routes."""
    entries = "".join(f"{key} {value}\n" for key, value in plan(routes).items())
    return {"haproxy.cfg": config(routes, bind=f"0.0.0.0:{PORT}", socket_file=SOCKET), "plan.map": entries}


def _form(routes: Routes) -> str:
    return config(routes, bind=f"0.0.0.0:{PORT}", socket_file=SOCKET).partition("\n")[0]


def _runs(found: Object) -> bool:
    state = found["State"]
    return bool(state.get("Running") and not state.get("Restarting") and not state.get("Paused"))


def _texts(answer: Mapping[str, object]) -> list[str]:
    answers = answer.get("answers")
    return [str(text) for text in answers] if isinstance(answers, list) else []
