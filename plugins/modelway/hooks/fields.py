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

#: what the driver accepts; Airflow stores other things there, too
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
    """The fields of a connection."""

    conn_id: str
    conn_type: str = ""
    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    port: int | None = None
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def registry_of(fields: Fields) -> str:
    """Return the host of the registry that a connection names, as references have it; empty where it names none."""
    host = (fields.host.partition("://")[2] or fields.host).partition("/")[0]
    if host in ("index.docker.io", "registry-1.docker.io"):
        return "docker.io"
    return f"{host}:{fields.port}" if host and fields.port else host


def is_for_jobs(fields: Fields) -> bool:
    """Return whether the extra field ``jobs`` of a registry's connection gives its login to jobs."""
    return fields.extra.get("jobs") in (True, "true")


def fields_from_airflow(conn_id: str, connection: Any) -> Fields:
    """Return the fields of Airflow's own object."""
    texts = {name: getattr(connection, name) or "" for name in ("conn_type", "host", "login", "password", "schema")}
    return Fields(conn_id=conn_id, **texts, port=connection.port, extra=_extra(connection.extra))


def fields_from_environment(conn_id: str) -> Fields | None:
    """Return a connection that the environment has, as a URI or as JSON; None without one.

    :raises ModelwayError: it cannot be read
    """
    name = f"AIRFLOW_CONN_{conn_id.upper()}"
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        return _from_json(conn_id, text) if text.startswith("{") else _from_uri(conn_id, text)
    except (ValueError, TypeError, AttributeError) as error:
        # The text is not shown: it may contain a password.
        raise ModelwayError(
            f"{name} cannot be read", do="Write a URI or JSON as Airflow takes it: <type>://<login>:<password>@<host>"
        ) from error


def _from_json(conn_id: str, text: str) -> Fields:
    document = json.loads(text)
    texts = {name: str(document.get(name) or "") for name in ("conn_type", "host", "login", "password", "schema")}
    port = document.get("port")
    return Fields(conn_id=conn_id, **texts, port=int(port) if port else None, extra=_extra(document.get("extra")))


def _from_uri(conn_id: str, text: str) -> Fields:
    # If the host is itself a URL, Airflow writes its scheme in the second place.
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


def _extra(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    return value if isinstance(value, Mapping) else {}


def database_url(fields: Fields) -> str:
    """Return the SQLAlchemy URL of the database that a connection describes.

    :raises ModelwayError: it describes none that can store the lineage
    """
    where = f"connection {fields.conn_id}"
    if fields.conn_type == "sqlite":
        path = fields.host or f"/{fields.schema}"
        return f"sqlite:///{path}"
    if fields.conn_type not in _POSTGRES:
        known = ("generic", "postgres", "sqlite")
        raise ModelwayError(
            f"'{fields.conn_type}' is not a database for the lineage", where=where, known=known, given=fields.conn_type
        )
    if not fields.host:
        raise ModelwayError("it names no host", where=where, do="Fill in host, schema (the database), login, password")
    login = quote(fields.login, safe="")
    if fields.password:
        login += f":{quote(fields.password, safe='')}"
    host = f"[{fields.host}]" if ":" in fields.host and not fields.host.startswith("[") else fields.host
    place = f"{login}@{host}" if login else host
    options = {name: str(value) for name, value in fields.extra.items() if name.startswith(_DATABASE_OPTIONS)}
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql+psycopg://{place}{f':{fields.port}' if fields.port else ''}/{quote(fields.schema)}{query}"


def destination(exporter: str, fields: Fields) -> Destination:
    """Return where an exporter sends; the scheme is before the host or, as Airflow's own HTTP has it, in ``schema``."""
    secure = "https" in (fields.conn_type, fields.schema)
    host = fields.host if "://" in fields.host else f"{'https' if secure else 'http'}://{fields.host}"
    if fields.port and urlsplit(host).netloc.rpartition("]")[2].count(":") == 0:
        parts = urlsplit(host)
        host = parts._replace(netloc=f"{parts.netloc}:{fields.port}").geturl()
    if fields.schema and fields.schema not in ("http", "https"):
        host = f"{host.rstrip('/')}/{fields.schema}"
    options = {name: str(value) for name, value in fields.extra.items() if isinstance(value, (str, int))}
    login, password = fields.login or None, fields.password or None
    return Destination(exporter=exporter, url=host, login=login, password=password, options=options)


def destination_of_url(exporter: str, url: str) -> Destination:
    """Return where an exporter sends, by a URL that may contain login and password.

    :raises ModelwayError: it cannot be read
    """
    try:
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        login, password = unquote(parts.username or "") or None, unquote(parts.password or "") or None
    except ValueError as error:
        # The text is not shown: it may contain a password.
        do = "Write https://<login>:<password>@<host>, or https://:<token>@<host>"
        raise ModelwayError(f"the URL of {exporter} cannot be read", do=do) from error
    return Destination(exporter=exporter, url=bare, login=login, password=password)
