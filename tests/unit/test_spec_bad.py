"""Every broken spec of tests/bad is refused with exactly the finding that stands beside it."""

import shutil
from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.ports import known
from modelway.spec.load import FILE_NAME, LoadedSpecs, find_specs, load_files, load_spec, load_specs
from modelway.spec.problems import render
from spec_samples import GOOD_CODE, write_model

BAD = Path(__file__).parents[1] / "bad"
CASES = sorted(folder.name for folder in BAD.iterdir() if folder.is_dir())
ROOMS = ("backends", "builders", "endpoints")
OWN = (FILE_NAME, "expected.txt", "code.txt")
# Good until one of their environments is chosen.
ONLY_IN_AN_ENVIRONMENT = ("environment-of-defaults", "environment-takes-away", "environment-value")


def lay_out(case: str, models: Path) -> Path:
    own = BAD / case / "code.txt"
    code = own.read_text() if own.exists() else GOOD_CODE
    folder = write_model(models, case, spec=(BAD / case / FILE_NAME).read_bytes(), code=code)
    for file in (BAD / case).iterdir():
        if file.name not in OWN:
            shutil.copy(file, folder)
    return folder


def lint(models: Path) -> LoadedSpecs:
    return load_files(find_specs(models)[0], environment="", every_environment=True)


def expected(case: str) -> str:
    text = (BAD / case / "expected.txt").read_text().rstrip("\n")
    for room in ROOMS:
        text = text.replace(f"{{{room}}}", ", ".join(known(room)))
    return text


@pytest.mark.parametrize("case", CASES)
def test_each_broken_spec_has_its_expected_finding(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = lay_out(case, tmp_path)
    linted = lint(tmp_path)
    assert not linted.specs
    assert render(linted.problems) == expected(case)
    if case in ONLY_IN_AN_ENVIRONMENT:
        assert load_spec(folder).environment is None
        return
    loaded = load_specs(tmp_path)
    assert not loaded.specs
    assert render(loaded.problems) == expected(case)
    with pytest.raises(InvalidSpec) as caught:
        load_spec(folder)
    assert str(caught.value) == expected(case)


@pytest.mark.parametrize("case", ONLY_IN_AN_ENVIRONMENT)
def test_an_environment_that_is_broken_is_refused_where_it_is_chosen(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay_out(case, tmp_path)
    (environment,) = lint(tmp_path).environments
    monkeypatch.setenv("MODELWAY_ENV", environment)
    assert not load_specs(tmp_path).specs
    with pytest.raises(InvalidSpec):
        load_spec(folder)


def test_there_are_enough_broken_specs() -> None:
    assert len(CASES) >= 60


def test_all_broken_specs_are_found_in_one_pass_and_leave_a_good_one_alone(tmp_path: Path) -> None:
    for case in CASES:
        lay_out(case, tmp_path)
    write_model(tmp_path, "good")
    linted = lint(tmp_path)
    assert list(linted.specs) == ["good"]
    assert {problem.file.parent.name for problem in linted.problems} == set(CASES)
