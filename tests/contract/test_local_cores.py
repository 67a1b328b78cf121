"""Jobs that ask for part of a machine's cores do not share one while another is free."""

import os

import pytest
from modelway.backends.base import Job, Options, load_backend

from tests.job_folders import WAITS, go, pid_of, store_code, succeeded


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_jobs_that_run_at_the_same_time_get_cores_of_their_own(tmp_path):
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("this machine has one core")
    backend = load_backend("local", home=tmp_path / "home")
    code = store_code(tmp_path, WAITS)
    taken = set()
    # By their names alone, some of them would get the same: three pairs, so that it cannot be by chance.
    for pair in range(3):
        jobs = [
            Job(model="tiny", run=f"r{pair}", key=key, stage="train", action="train", module="tiny.py", code=code)
            for key in ("a", "b")
        ]
        handles = [backend.submit(backend.build_request(job, Options(cpu=1))) for job in jobs]
        try:
            bound = [os.sched_getaffinity(pid_of(backend, handle)) for handle in handles]
        finally:
            for handle in handles:
                go(backend, handle)
        for handle in handles:
            succeeded(backend, handle)
        assert all(len(each) == 1 for each in bound)
        assert bound[0] != bound[1]
        taken |= set.union(*bound)
    assert len(taken) >= 2
