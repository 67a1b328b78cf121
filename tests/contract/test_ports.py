"""A member of one's own in each port: in the port's room or as an installed package, and no other file changes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelway.ports import PORTS, known, load

PLUGINS = Path(__file__).parents[2] / "plugins"
ROOMS = {
    "backends": "modelway.backends",
    "builders": "modelway.builders",
    "endpoints": "modelway.endpoints",
    "exporters": "modelway.lineage.exporters",
}
#: port → module and class of its members
KINDS = {
    "backends": ("modelway.backends.base", "BackendMember"),
    "builders": ("modelway.builders.base", "BuilderMember"),
    "endpoints": ("modelway.endpoints.base", "EndpointMember"),
    "exporters": ("modelway.lineage.exporters.base", "ExporterMember"),
}
MEMBER = """
from {module} import {kind}

def _open(*given, **settings):
    return "{port} opened with " + " ".join([*map(str, given), *sorted(settings)])

def _section():
    from pydantic import Field
    from modelway.fields.section import Section
    from modelway.fields.values import Duration

    class Toy{port}(Section):
        '''What only the toy of {port} knows.'''

        speed: int = Field(default=1, ge=1, description="How fast the toy of {port} is")
        rest_seconds: Duration = Field(default=60, alias="rest", description="How long it rests")

    return Toy{port}

MEMBER = {kind}(name="toy", open=_open, capabilities=frozenset({{"cancel"}}), section=_section)
"""
GOOD = """\
model: good
train: {backend: toy}
toy: {speed: 2}
image: {builder: toy, toy: {rest: 2h}}
endpoint: {target: toy, toy: {speed: 3}}
"""
BAD = """\
model: bad
train:
  backend: toyy
  resources: {gpu: 1}
toy: {sped: 2}
image: {builder: toy, toy: {rest: soon}}
endpoint: {target: toy, toy: {speed: 0}}
"""
UNABLE = """\
model: unable
train: {backend: toy, resources: {gpu: 1}}
"""
#: what is done with the members, in a process that sees them
PROGRAM = """
import contextlib, importlib, io, json, sys
from pathlib import Path

models, rooms = Path(sys.argv[1]), json.loads(sys.argv[2])
for room, folder in rooms.items():
    importlib.import_module(room).__path__.append(folder)

from modelway import cli, ports
from modelway.backends.base import load_backend
from modelway.builders.base import load_builder
from modelway.endpoints.base import load_endpoint
from modelway.lineage.exporters.base import Destination, connect_exporter
from modelway.spec.load import load_spec
from modelway.spec.schema import json_schema

spec = load_spec(models / "good" / "model.yaml")
printed = io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
    cli.main(["lint", *(str(models / name / "model.yaml") for name in ("good", "bad", "unable"))])
definitions = json_schema()["$defs"]
print(json.dumps({
    "known": {port: ports.known(port) for port in ports.PORTS},
    "opened": [
        load_backend("toy", home=Path("h")),
        load_builder("toy"),
        load_endpoint("toy", root=Path("r")),
        connect_exporter(Destination(exporter="toy", url="u")),
    ],
    "platforms": [spec.platform("toy"), spec.image.platform(), spec.endpoint.platform()],
    "again": type(spec).model_validate(spec.to_dict(), context={"folder": spec.folder}) == spec,
    "unused": sorted(load_spec(models / "other" / "model.yaml").to_dict()),
    "schema": [
        definitions["TrainSection"]["properties"]["backend"]["enum"],
        definitions["Model"]["properties"]["toy"]["$ref"],
        definitions["EndpointSection"]["properties"]["toy"]["$ref"],
        definitions["Toybackends"]["properties"]["rest"]["description"],
    ],
    "lint": printed.getvalue(),
}))
"""


def member_text(port: str) -> str:
    module, kind = KINDS[port]
    return MEMBER.format(module=module, kind=kind, port=port)


def in_rooms(folder: Path) -> tuple[dict[str, str], Path]:
    """Write the toys as packages of the rooms, and return the folders that become part of these rooms' paths."""
    for port in PORTS:
        (folder / port / "toy").mkdir(parents=True)
        (folder / port / "toy" / "__init__.py").write_text("")
        (folder / port / "toy" / "member.py").write_text(member_text(port))
    return {ROOMS[port]: str(folder / port) for port in PORTS}, folder


def installed(folder: Path) -> tuple[dict[str, str], Path]:
    """Write the toys as an installed package with entry points."""
    (folder / "toybox").mkdir(parents=True)
    (folder / "toybox" / "__init__.py").write_text("")
    for port in PORTS:
        (folder / "toybox" / f"{port}.py").write_text(member_text(port))
    describe(folder, {port: f"toy = toybox.{port}:MEMBER" for port in PORTS})
    return {}, folder


def describe(folder: Path, points: dict[str, str]) -> None:
    information = folder / "toybox-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toybox\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "".join(f"[modelway.{port}]\n{line}\n" for port, line in points.items())
    )


def run(program: str, *arguments: str, path: Path) -> str:
    search = os.pathsep.join([str(PLUGINS), str(path)])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[in_rooms, installed])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that sees the toys says of them."""
    folder = tmp_path_factory.mktemp("toys")
    rooms, path = request.param(folder / "members")
    models = folder / "models"
    for name, text in {"good": GOOD, "bad": BAD, "unable": UNABLE, "other": "model: other\n"}.items():
        (models / name).mkdir(parents=True)
        (models / name / "model.yaml").write_text(text)
        code = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"
        (models / name / f"{name}.py").write_text(code)
    return json.loads(run(PROGRAM, str(models), json.dumps(rooms), path=path))


def test_a_toy_is_known_and_opened_in_each_port(found: Any) -> None:
    assert all("toy" in names for names in found["known"].values())
    assert [text.partition(" ")[0] for text in found["opened"]] == list(PORTS)
    assert found["opened"][0] == "backends opened with client home"
    assert found["opened"][2] == "endpoints opened with root"


def test_a_spec_has_the_sections_of_the_toys(found: Any) -> None:
    assert found["platforms"] == [
        {"speed": 2, "rest_seconds": 60},
        {"speed": 1, "rest_seconds": 7200},
        {"speed": 3, "rest_seconds": 60},
    ]
    assert found["again"]


def test_a_spec_that_uses_no_toy_says_nothing_of_them(found: Any) -> None:
    assert not {"toy", "docker", "kubernetes"} & set(found["unused"])


def test_the_schema_has_the_names_and_sections_of_the_toys(found: Any) -> None:
    names, of_backend, of_endpoint, described = found["schema"]
    assert names == sorted({"docker", "kubernetes", "local", "toy", "vertex"})
    assert (of_backend, of_endpoint) == ("#/$defs/Toybackends", "#/$defs/Toyendpoints")
    assert described == "How long it rests"


def test_lint_checks_the_sections_of_the_toys_with_line_and_column(found: Any) -> None:
    lines = {re.sub(r"^\S*/models/", "", line) for line in found["lint"].splitlines()}
    expected = {
        "bad/model.yaml:3:12  train.backend: 'toyy' is not a backend. Known: docker, kubernetes, local, toy, vertex. "
        "Did you mean 'toy'?",
        "bad/model.yaml:5:7  toy.sped: unknown key. Known: rest, speed. Did you mean 'speed'?",
        "bad/model.yaml:7:38  endpoint.toy.speed: must be at least 1, got 0.",
        "unable/model.yaml:2:35  train.resources.gpu: the backend 'toy' cannot give this. Choose the backend docker or "
        "kubernetes or local or vertex, or remove the key.",
    }
    assert expected <= lines, found["lint"]
    assert any(line.startswith("bad/model.yaml:6:35  image.toy.rest: 'soon' is not a duration") for line in lines)


def test_a_broken_installed_member_stops_only_who_uses_it(tmp_path: Path) -> None:
    (tmp_path / "toybox").mkdir()
    (tmp_path / "toybox" / "__init__.py").write_text("raise RuntimeError('no licence')\n")
    describe(tmp_path, {"backends": "toy = toybox:MEMBER"})
    (tmp_path / "models" / "other").mkdir(parents=True)
    (tmp_path / "models" / "other" / "model.yaml").write_text("model: other\n")
    (tmp_path / "models" / "other" / "other.py").write_text(
        "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"
    )
    program = """
import sys
from pathlib import Path
from modelway.spec.load import load_spec
from modelway.backends.base import load_backend
from modelway.errors import CapabilityMissing
print(load_spec(Path(sys.argv[1])).model)
try:
    load_backend("toy", home=Path())
except CapabilityMissing as error:
    print(error)
"""
    model, refused = run(program, str(tmp_path / "models" / "other" / "model.yaml"), path=tmp_path).splitlines()
    assert model == "other"
    assert "'toy', a backend, cannot be loaded (RuntimeError: no licence)" in refused
    assert "Fix or remove the package that provides it" in refused


@pytest.mark.parametrize("port", PORTS)
def test_members_know_nothing_of_one_another(port: str) -> None:
    room = ROOMS[port]
    folder = PLUGINS / room.replace(".", "/")
    for name in known(port):
        assert load(port, name).name == name
        others = "|".join(other for other in known(port) if other != name)
        for file in (folder / name).rglob("*.py") if others else ():
            assert not re.search(rf"{re.escape(room)}\.({others})\b", file.read_text()), file
