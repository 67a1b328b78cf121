"""The notice that a job must leave: it reaches the code on every machine, and none that begins after it."""

from pathlib import Path

import pytest
from modelway.job.agent.notice import Notice

#: an agent of one of two machines whose code is a shell script: torchrun would wait for the other machine


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "g0" / "try-1"
    folder.mkdir(parents=True)
    return folder


def test_a_notice_reaches_the_code_on_all_machines(attempt: Path) -> None:
    first, second = (Notice(attempt=attempt, node=node) for node in (0, 1))
    second.check()
    assert (first.delivered, second.delivered) == (False, False)
    assert (first.path.exists(), second.path.exists()) == (False, False)
    first.send()
    second.check()
    assert (first.delivered, second.delivered, first.path.exists(), second.path.exists()) == (True, True, True, True)


def test_a_notice_of_before_is_none(attempt: Path) -> None:
    for notice in [Notice(attempt=attempt, node=node) for node in (0, 1)]:
        notice.send()
    first, second = (Notice(attempt=attempt, node=node) for node in (0, 1))
    for notice in (first, second):
        notice.check()
        assert (notice.delivered, notice.path.exists()) == (False, False)
    second.send()
    first.check()
    assert first.delivered
    assert first.path.exists()


def test_what_the_job_left_in_the_place_of_a_notice_is_not_followed(attempt: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("as it was")
    for name in ("notice", "notice-0"):
        (attempt / name).symlink_to(tmp_path / "outside")
    notice = Notice(attempt=attempt, node=0)
    notice.check()
    assert not notice.delivered
    notice.send()
    assert notice.delivered
    assert (tmp_path / "outside").read_text() == "as it was"
