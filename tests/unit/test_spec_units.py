import pytest
from modelway.fields.refusal import Refusal
from modelway.fields.units import format_duration, format_size, parse_duration, parse_size
from modelway.spec.gates import Gate, parse_gate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("1d2h3m4s", 93_784), ("90m", 5400)],
)
def test_a_duration_is_whole_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "value",
    [90, 1.5, "90", "", "s", "2 h", "30m1h", "-5s", "1.5h", "5 minutes", "0s", "366d", "٣s", None, True, ["1s"]],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(Refusal):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("512Mi", 2**29), ("2Gi", 2**31), ("1.5Gi", 3 * 2**29), ("2 G", 2 * 10**9), ("1.3Ki", 1332)],
)
def test_a_size_is_whole_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


def test_every_size_is_written_so_that_it_is_read_back() -> None:
    for size in (1, 999, 1000, 1023, 1024, 1025, 10**9, 10**9 + 1, 2**31, 2**31 - 1, 3 * 2**29, 5 * 10**12, 2**50):
        assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        ("2GB", "2G"),
        ("2GiB", "2Gi"),
        ("512m", "512Mi"),
        ("4g", "4Gi"),
        ("1K", "1k"),
        ("1.5gb", "1.5G"),
        ("8 bytes", "8B"),
        ("3MI", "3Mi"),
    ],
)
def test_a_wrong_unit_of_size_gets_the_right_one_suggested(value: str, suggestion: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_size(value)
    assert caught.value.suggestion == suggestion
    parse_size(suggestion)


@pytest.mark.parametrize("value", [512, "512", "", "Gi", "-1Gi", "0Gi", "2000Ti", "1e3Mi", None, False, {}])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(Refusal):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (">= 0.9", Gate(">=", 0.9)),
        ("<1", Gate("<", 1.0)),
        (" <= -1e-3 ", Gate("<=", -0.001)),
        ("> .5", Gate(">", 0.5)),
    ],
)
def test_a_gate_is_a_comparison_and_a_limit(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate
    assert parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    "value", ["0.9", "= 0.9", "== 1", ">= x", ">=", ">= 1e999", ">= nan", "> 1 2", 0.9, None, [], "> " + "1" * 200]
)
def test_what_is_no_gate_is_refused(value: object) -> None:
    with pytest.raises(Refusal):
        parse_gate(value)


def test_a_gate_compares_as_it_is_written_and_nan_never_passes() -> None:
    passing = {">=": (0.9, 1.0), ">": (1.0,), "<=": (0.9, 0.5), "<": (0.5,)}
    for op, values in passing.items():
        gate = parse_gate(f"{op} 0.9")
        assert tuple(value for value in (0.9, 1.0, 0.5) if gate.passes(value)) == values
        assert not gate.passes(float("nan"))
