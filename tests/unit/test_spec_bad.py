"""Every broken spec of tests/bad is refused with exactly the finding that stands beside it."""

from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.load import load_spec, load_specs
from modelway.spec.problems import render
from modelway.spec.rooms import known_names
from spec_samples import GOOD_CODE, write_model

BAD = Path(__file__).parents[1] / "bad"
CASES = sorted(folder.name for folder in BAD.iterdir() if folder.is_dir())
ROOMS = ("backends", "builders", "endpoints")


def lay_out(case: str, models: Path) -> Path:
    own = BAD / case / "code.txt"
    code = own.read_text() if own.exists() else GOOD_CODE
    return write_model(models, case, spec=(BAD / case / "model.yaml").read_bytes(), code=code)


def expected(case: str) -> str:
    text = (BAD / case / "expected.txt").read_text().rstrip("\n")
    for room in ROOMS:
        text = text.replace(f"{{{room}}}", ", ".join(known_names(room)))
    return text


@pytest.mark.parametrize("case", CASES)
def test_each_broken_spec_has_its_expected_finding(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = lay_out(case, tmp_path)
    loaded = load_specs(tmp_path)
    assert not loaded.specs
    assert render(loaded.problems) == expected(case)
    with pytest.raises(InvalidSpec) as caught:
        load_spec(folder)
    assert str(caught.value) == expected(case)


def test_all_broken_specs_are_found_in_one_pass_and_leave_a_good_one_alone(tmp_path: Path) -> None:
    for case in CASES:
        lay_out(case, tmp_path)
    write_model(tmp_path, "good")
    loaded = load_specs(tmp_path)
    assert list(loaded.specs) == ["good"]
    assert {problem.file.parent.name for problem in loaded.problems} == set(CASES)
