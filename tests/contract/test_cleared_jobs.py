"""A job that a cleared task finds running belongs to that clear."""

import pytest
from job_folders import WAITS, go, pid_of, store_code, succeeded
from modelway.backends.base import Job, JobState, JobStatus, Options, load_backend
from modelway.backends.folders import generations


def asked(tmp_path, *, clear_number: int) -> Job:
    code = store_code(tmp_path, WAITS)
    names = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", "module": "tiny.py"}
    return Job(**names, code=code, clear_number=clear_number)


def test_what_a_clear_found_running_is_not_done_again_when_its_collection_is_tried_again(tmp_path):
    backend = load_backend("local", home=tmp_path / "home")

    def submit(clear_number: int):
        return backend.submit(backend.build_request(asked(tmp_path, clear_number=clear_number), Options()))

    first = submit(0)
    pid_of(backend, first)
    assert submit(1) == first, "it runs, and the cleared task follows it"
    go(backend, first)
    succeeded(backend, first)
    assert submit(1) == first, "the next attempt of the cleared task collects it"
    again = submit(2)
    assert again != first, "another clear wants it done anew"
    go(backend, again)
    succeeded(backend, again)


@pytest.mark.parametrize(("clear_number", "folder"), [(0, "g1"), (1, "g0")])
def test_a_generation_goes_to_the_clear_that_found_it_unfinished(tmp_path, clear_number, folder):
    newest = tmp_path / "g0"
    (newest / "try-1").mkdir(parents=True)
    generations.write(newest / "generation.json", {"contract": {}, "clear_number": 0})

    def place(clear: int, state: JobState) -> str:
        status = JobStatus(state=state)
        return generations.generation(tmp_path, contract={}, clear_number=clear, status=lambda attempt: status).name

    assert place(1, JobState.RUNNING) == "g0"
    assert place(clear_number, JobState.SUCCEEDED) == folder


def test_a_job_whose_output_was_removed_is_not_found_again_but_done_again(tmp_path):
    backend, job = load_backend("local", home=tmp_path / "home"), asked(tmp_path, clear_number=0)
    first = backend.submit(backend.build_request(job, Options()))
    pid_of(backend, first)
    go(backend, first)
    succeeded(backend, first)
    assert backend.submit(backend.build_request(job, Options())) == first
    backend.discard(model="tiny", run="r1")
    again = backend.submit(backend.build_request(job, Options()))
    assert again != first, "nothing is left to collect"
    assert backend.folder(again).name == "g1"
    go(backend, again)
    succeeded(backend, again)
    assert backend.submit(backend.build_request(job, Options())) == again
