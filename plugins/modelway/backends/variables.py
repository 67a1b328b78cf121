"""The environment variables that a job sees on every backend."""

from modelway.backends.base import Job, Options

#: the libraries that would otherwise start a thread for each core of the machine, whatever the job may use of it
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def job_variables(job: Job, options: Options) -> dict[str, str]:
    """Return the variables that follow from the job and what it may use; a backend adds its own places."""
    threads = {name: str(max(1, int(options.cpu))) for name in THREADS} if options.cpu else {}
    return {
        **threads,
        "PYTHONHASHSEED": str(job.seed % 2**32),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
