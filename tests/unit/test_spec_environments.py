"""The environments of an endpoint: what each inherits, what its endpoint is called, and what a release names."""

from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.load import load_spec
from modelway.spec.model import ModelSpec
from spec_samples import write_model

TWO = """\
model: digits
endpoint:
  replicas: 2
  local: {host: 0.0.0.0}
  environments:
    try: {replicas: 1, local: {port: 8080}}
    live: {}
"""


def spec_of(folder: Path, text: str) -> ModelSpec:
    return load_spec(write_model(folder, "digits", spec=text))


def test_an_environment_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, TWO)
    development, production = spec.serving(), spec.serving(last=True)
    assert (development.environment, development.endpoint, development.is_development) == ("try", "digits-try", True)
    assert (production.environment, production.endpoint, production.is_development) == ("live", "digits-live", False)
    assert (development.section.replicas, development.section.platform()) == (1, {"host": "0.0.0.0", "port": 8080})
    assert (production.section.replicas, production.section.platform()) == (2, {"host": "0.0.0.0", "port": None})
    assert spec.serving("try") == development
    with pytest.raises(InvalidSpec, match=r"'liv' is not an environment of .* Known: try, live. Did you mean 'live'\?"):
        spec.serving("liv")


def test_as_plain_data_it_is_the_same_spec(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, TWO)
    again = ModelSpec.model_validate(spec.to_dict(), context={"folder": spec.folder})
    assert again == spec
    assert (again.digest, again.to_dict()) == (spec.digest, spec.to_dict())


@pytest.mark.parametrize(
    ("endpoint", "environment"), [("{}", None), ("{environments: {live: {}}}", "live"), ("{environments: {}}", None)]
)
def test_the_only_endpoint_has_the_name_of_its_model(tmp_path: Path, endpoint: str, environment: str | None) -> None:
    spec = spec_of(tmp_path, f"model: digits\nendpoint: {endpoint}\n")
    serving = spec.serving()
    assert (serving.environment, serving.endpoint, serving.is_development) == (environment, "digits", False)
    if environment is None:
        assert "environments" not in spec.to_dict()["endpoint"], (
            "the digest is that of a spec from before there were any"
        )
