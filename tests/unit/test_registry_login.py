"""Logins at registries: tokens that expire, identity tokens, pauses that a registry names."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from modelway.errors import RegistryError
from modelway.oci import login as login_module
from modelway.oci.credentials import Credentials
from modelway.oci.login import RegistryLogin
from modelway.oci.retries import RegistryBusy, Retries, retry_after

CHALLENGE = ['Bearer realm="https://tokens.example.com/token",service="registry"']
SCOPE = ("repository:models/digits:pull,push",)


class Tokens:
    """A token server that counts, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answer: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.now, self.answer = 1000.0, answer
        monkeypatch.setattr(login_module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json={"token": f"t{len(self.requests)}", **self.answer})

    def login(self, credentials: Credentials | None = None, *, base: str = "https://example.com") -> RegistryLogin:
        http = httpx.Client(transport=httpx.MockTransport(self.handle))
        return RegistryLogin(http=http, host="example.com", base=base, credentials=lambda: credentials)


def test_nothing_is_sent_before_a_challenge_and_the_login_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("the login was looked up")

    http = httpx.Client(transport=httpx.MockTransport(Tokens(monkeypatch).handle))
    login = RegistryLogin(http=http, host="example.com", base="https://example.com", credentials=fail)
    assert login.header(SCOPE) == {}


def test_a_token_is_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch, expires_in=100)
    login = tokens.login()
    login.answer(CHALLENGE, scope=SCOPE, sent=None)
    assert login.header(SCOPE) == {"Authorization": "Bearer t1"}
    tokens.now += 89
    assert login.header(SCOPE) == {"Authorization": "Bearer t1"}
    tokens.now += 2
    assert login.header(SCOPE) == {"Authorization": "Bearer t2"}
    assert len(tokens.requests) == 2


def test_a_refused_token_is_replaced_once_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    login = tokens.login()
    login.answer(CHALLENGE, scope=SCOPE, sent=None)
    threads = [
        threading.Thread(target=login.answer, args=(CHALLENGE,), kwargs={"scope": SCOPE, "sent": "Bearer t1"})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert login.header(SCOPE) == {"Authorization": "Bearer t2"}
    assert len(tokens.requests) == 2


def test_an_identity_token_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    login = tokens.login(Credentials(identity_token="secret"))
    login.answer(CHALLENGE, scope=SCOPE, sent=None)
    (request,) = tokens.requests
    assert request.method == "POST"
    form = httpx.QueryParams(request.content.decode())
    assert dict(form) == {
        "grant_type": "refresh_token",
        "refresh_token": "secret",
        "scope": SCOPE[0],
        "service": "registry",
        "client_id": "modelway",
    }


def test_a_login_is_sent_to_no_token_server_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    login = tokens.login(Credentials(username="me", password="s3cret"))
    login.answer(['Bearer realm="http://tokens.example.com/token"'], scope=SCOPE, sent=None)
    assert tokens.requests == []
    assert login.header(SCOPE) == {}
    assert "s3cret" not in repr(Credentials(username="me", password="s3cret", identity_token="s3cret"))


@pytest.mark.parametrize("answer", [{"token": ""}, {"expires_in": "soon"}])
def test_a_token_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    login = Tokens(monkeypatch, **answer).login()
    login.answer(CHALLENGE, scope=SCOPE, sent=None)
    assert login.header(SCOPE) == {}


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (" 0 ", 0.0), (None, 0.0), ("soon", 0.0), ("-3", 0.0)])
def test_a_pause_in_seconds_is_read(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_a_pause_until_a_date_is_read() -> None:
    assert 50 < retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)) == 0
    assert retry_after("Sun, 06 Nov 1994 08:49:37 -0000") == 0


def test_attempts_end_with_their_number_and_with_what_no_attempt_changes() -> None:
    tried = []

    def attempt(error: RegistryError) -> None:
        tried.append(error)
        raise error

    with pytest.raises(RegistryError):
        Retries(attempts=3, pause_seconds=0).call(lambda: attempt(RegistryError("busy")))
    assert len(tried) == 3
    tried.clear()
    stop = threading.Event()
    stop.set()
    with pytest.raises(RegistryError):
        Retries(attempts=3, pause_seconds=0).call(lambda: attempt(RegistryError("busy")), stop=stop)
    assert len(tried) == 1
    tried.clear()
    with pytest.raises(RegistryBusy):
        Retries(attempts=3, pause_seconds=0).call(lambda: attempt(RegistryBusy("busy", pause_seconds=3600)))
    assert len(tried) == 1
