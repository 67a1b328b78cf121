"""Jobs made of a few lines of Python without any library, as folders or as requests to a backend."""

import json
import os
import time
import zipfile
from pathlib import Path

from modelway.artifacts.code_package import write_code_package
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import Backend, Handle, Job, JobState, JobStatus

from tests.docker_engine import pid_outside, put_text
from tests.google.vertex_machines import folder_in_container

#: says who it is, then waits until ``go`` appears in its output folder
WAITS = """
import os, time
def train(job):
    job.output.mkdir(exist_ok=True)
    (job.output / 'pid').write_text(str(os.getpid()))
    with open(job.folder / 'starts.txt', 'a') as file: file.write('x')
    print('waiting')
    while not (job.output / 'go').exists():
        time.sleep(0.02)
    with job.checkpoint(step=1) as path: path.write_text('done')
"""


def write_job(folder: Path, *, code: str | None = None, **fields: object) -> Path:
    """Write the contract's folder of a job: ``job.json``, and ``code/tiny.py`` when there is code."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train", "module": "tiny.py"}
    contract = Job(**{**asked, **{key: value for key, value in fields.items() if key != "inputs"}}).contract()
    contract["inputs"] = fields.get("inputs", {})
    (folder / "job.json").write_text(json.dumps(contract))
    (folder / "code").mkdir(exist_ok=True)
    if code is not None:
        (folder / "code" / "tiny.py").write_text(code)
    return folder


def store_code(folder: Path, code: str, **files: str):
    """Store a code package with ``tiny.py`` and more files; return the artifact."""
    tree = folder / "code"
    tree.mkdir(parents=True, exist_ok=True)
    for name, text in {"tiny.py": code, **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    write_code_package(folder=tree, to=folder / "code.zip")
    return ArtifactStore(f"file://{folder}/store").put(folder / "code.zip", model="tiny")


def store_text(folder: Path, text: str):
    """Store a small file; return the artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.txt").write_text(text)
    return ArtifactStore(f"file://{folder}/store").put(folder / "input.txt", model="tiny")


def write_wheel(folder: Path, name: str, version: str, *, value: int) -> Path:
    """Write the smallest wheel (PyPA's binary distribution format): one module with ``VALUE``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VALUE = {value}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


def wait_for(condition, *, seconds: float = 20.0, what: str = "it"):
    """Poll until ``condition()`` is true and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} seconds"
        time.sleep(0.02)
    return value


def runs(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")


#: how long a job may take to come and go, where that is more than a process of this machine takes
SECONDS = {"docker": 60.0, "kubernetes": 90.0, "vertex": 60.0}


def folder_of(backend: Backend, handle: Handle) -> Path:
    """Return the folder that a job works in, where this machine has it; else a copy of it as it is now."""
    return folder_in_container(handle) if handle.backend == "vertex" else backend.folder(handle)


def _patience(handle: Handle) -> float:
    return SECONDS.get(handle.backend, 20.0)


def ended(backend: Backend, handle: Handle, *, seconds: float | None = None) -> JobStatus:
    """Wait for a job's end and return how it ended."""

    def over():
        status = backend.describe(handle)
        return status if status.state.is_terminal else None

    return wait_for(over, seconds=seconds or _patience(handle), what=f"the end of {handle.name}")


def succeeded(backend: Backend, handle: Handle, *, seconds: float | None = None) -> JobStatus:
    """Wait for a job's end, which must be a good one."""
    status = ended(backend, handle, seconds=seconds)
    assert status.state is JobState.SUCCEEDED, (status, backend.logs(handle))
    return status


def written(backend: Backend, handle: Handle, name: str = "pid") -> str:
    """Wait until a job has written into its output folder, and return what."""

    def text():
        path = folder_of(backend, handle) / "output" / name
        return path.exists() and path.read_text()

    return wait_for(text, seconds=_patience(handle), what=f"the job's {name}")


def pid_of(backend: Backend, handle: Handle, name: str = "pid") -> int:
    """Return the pid that a job wrote into its output folder, as this machine counts."""
    pid = int(written(backend, handle, name))
    return pid_outside(handle, pid) if handle.backend == "docker" else pid


def put(backend: Backend, handle: Handle, name: str, text: str = "") -> None:
    """Write a file into the output folder of a job that runs, whole or not at all."""
    if handle.backend == "docker":
        return put_text(handle, f"output/{name}", text)
    output = folder_of(backend, handle) / "output"
    # A container may not have begun.
    output.mkdir(parents=handle.backend == "vertex", exist_ok=True)
    (output / f".{name}").write_text(text)
    (output / f".{name}").rename(output / name)
    return None


def go(backend: Backend, handle: Handle) -> None:
    """Let a job of ``WAITS`` end."""
    put(backend, handle, "go")


def starts(backend: Backend, handle: Handle) -> int:
    """Return how often a job of ``WAITS`` was started."""
    return len((folder_of(backend, handle) / "starts.txt").read_text())
