"""The fields of a connection, whether Airflow has it or the environment (``AIRFLOW_CONN_<ID>``), and what they mean."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from modelway.errors import ModelwayError
from modelway.lineage.exporters.base import Destination

#: what the driver takes; Airflow keeps other things there, too
_DATABASE_OPTIONS = (
    "ssl",
    "keepalives",
    "gss",
    "target_session_attrs",
    "application_name",
    "connect_timeout",
    "options",
)
_POSTGRES = ("postgres", "postgresql", "generic", "")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What a connection says."""

    conn_id: str
    conn_type: str = ""
    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    port: int | None = None
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def fields_from_airflow(conn_id: str, given: Any) -> Fields:
    """Return the fields of Airflow's own object."""
    texts = {name: getattr(given, name) or "" for name in ("conn_type", "host", "login", "password", "schema")}
    return Fields(conn_id=conn_id, **texts, port=given.port, extra=_extra(given.extra))


def fields_from_environment(conn_id: str) -> Fields | None:
    """Return a connection that the environment gives, as a URI or as JSON; None without one.

    :raises ModelwayError: it cannot be read
    """
    name = f"AIRFLOW_CONN_{conn_id.upper()}"
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        return _from_json(conn_id, text) if text.startswith("{") else _from_uri(conn_id, text)
    except (ValueError, TypeError, AttributeError) as error:
        # The text is not shown: it may hold a password.
        raise ModelwayError(
            f"{name} cannot be read", do="Write a URI or JSON as Airflow takes it: <type>://<login>:<password>@<host>"
        ) from error


def _from_json(conn_id: str, text: str) -> Fields:
    given = json.loads(text)
    texts = {name: str(given.get(name) or "") for name in ("conn_type", "host", "login", "password", "schema")}
    port = given.get("port")
    return Fields(conn_id=conn_id, **texts, port=int(port) if port else None, extra=_extra(given.get("extra")))


def _from_uri(conn_id: str, text: str) -> Fields:
    # Of a host that is an address itself Airflow writes the scheme in the second place.
    two = re.match(r"([^:/]+://)(https?://)(?=.)", text)
    parts = urlsplit(two[1] + text[two.end() :] if two else text)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    place = parts.netloc.rpartition("@")[2]
    return Fields(
        conn_id=conn_id,
        conn_type=parts.scheme.replace("-", "_"),
        host=(two[2] if two else "") + unquote(place.rpartition(":")[0] if parts.port else place),
        login=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        port=parts.port,
        schema=unquote(parts.path.removeprefix("/")),
        extra=_extra(query.get("__extra__", query)),
    )


def _extra(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    return given if isinstance(given, Mapping) else {}


def database_url(given: Fields) -> str:
    """Return the SQLAlchemy URL of the database that a connection describes.

    :raises ModelwayError: it describes none that can keep the lineage
    """
    where = f"connection {given.conn_id}"
    if given.conn_type == "sqlite":
        path = given.host or f"/{given.schema}"
        return f"sqlite:///{path}"
    if given.conn_type not in _POSTGRES:
        known = ("generic", "postgres", "sqlite")
        raise ModelwayError(
            f"'{given.conn_type}' is not a database for the lineage", where=where, known=known, given=given.conn_type
        )
    if not given.host:
        raise ModelwayError("it names no host", where=where, do="Fill in host, schema (the database), login, password")
    login = quote(given.login, safe="")
    if given.password:
        login += f":{quote(given.password, safe='')}"
    host = f"[{given.host}]" if ":" in given.host and not given.host.startswith("[") else given.host
    place = f"{login}@{host}" if login else host
    options = {name: str(value) for name, value in given.extra.items() if name.startswith(_DATABASE_OPTIONS)}
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql+psycopg://{place}{f':{given.port}' if given.port else ''}/{quote(given.schema)}{query}"


def destination(exporter: str, given: Fields) -> Destination:
    """Return where an exporter sends; the scheme is before the host or, as Airflow's own HTTP has it, in ``schema``."""
    secure = "https" in (given.conn_type, given.schema)
    host = given.host if "://" in given.host else f"{'https' if secure else 'http'}://{given.host}"
    if given.port and urlsplit(host).netloc.rpartition("]")[2].count(":") == 0:
        parts = urlsplit(host)
        host = parts._replace(netloc=f"{parts.netloc}:{given.port}").geturl()
    if given.schema and given.schema not in ("http", "https"):
        host = f"{host.rstrip('/')}/{given.schema}"
    options = {name: str(value) for name, value in given.extra.items() if isinstance(value, (str, int))}
    login, password = given.login or None, given.password or None
    return Destination(exporter=exporter, url=host, login=login, password=password, options=options)


def destination_of_url(exporter: str, url: str) -> Destination:
    """Return where an exporter sends, by a URL that may hold login and password.

    :raises ModelwayError: it cannot be read
    """
    try:
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        login, password = unquote(parts.username or "") or None, unquote(parts.password or "") or None
    except ValueError as error:
        # The text is not shown: it may hold a password.
        do = "Write https://<login>:<password>@<host>, or https://:<token>@<host>"
        raise ModelwayError(f"the URL of {exporter} cannot be read", do=do) from error
    return Destination(exporter=exporter, url=bare, login=login, password=password)
