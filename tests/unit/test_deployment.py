"""What distinguishes the jobs of one Airflow from those of another on the same engine or cluster."""

import threading

import pytest
from modelway.errors import NotWritable
from modelway.platforms.deployment import deployment, known_deployment


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("MODELWAY_DEPLOYMENT", "MODELWAY_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_has_one_token_for_all_of_its_processes(tmp_path):
    assert known_deployment(tmp_path / "home") is None
    assert not (tmp_path / "home").exists(), "asking writes nothing"
    token = deployment(tmp_path / "home")
    assert token == deployment(tmp_path / "home") == known_deployment(tmp_path / "home")
    assert token != deployment(tmp_path / "other")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["deployment"]


def test_processes_that_make_the_token_at_the_same_time_get_the_same(tmp_path):
    together, found = threading.Barrier(8), []

    def make():
        together.wait()
        found.append(deployment(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_homes_that_share_their_artifacts_are_one_deployment(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWAY_ARTIFACT_ROOT", (tmp_path / "shared").as_uri())
    assert deployment(tmp_path / "one") == known_deployment(tmp_path / "two")
    monkeypatch.setenv("MODELWAY_ARTIFACT_ROOT", "s3://models/artifacts")
    remote = known_deployment(tmp_path / "one")
    assert remote == deployment(tmp_path / "two"), "nothing need be written"
    monkeypatch.setenv("MODELWAY_ARTIFACT_ROOT", "s3://models/others")
    assert deployment(tmp_path / "one") != remote
    monkeypatch.setenv("MODELWAY_DEPLOYMENT", "team-a")
    named = deployment(tmp_path / "one")
    assert named != remote
    monkeypatch.delenv("MODELWAY_ARTIFACT_ROOT")
    assert deployment(tmp_path / "two") == named


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "home").write_text("a file in the way")
    with pytest.raises(NotWritable, match="MODELWAY_DEPLOYMENT"):
        deployment(tmp_path / "home")
