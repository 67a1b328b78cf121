"""The image of Airflow that the tests run: the deployment's own, or one of the same Dockerfile without its packages.

Installing Airflow and torch once more takes minutes. Where that is too much, the packages of the tests' own
environment, which are of the same versions, are mounted into every container instead.
"""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
DOCKERFILE = REPOSITORY / "include" / "images" / "airflow" / "Dockerfile"
#: where the packages are mounted
PACKAGES = "/opt/packages"
_COPIED = "COPY --from=packages /usr/local /usr/local\n"
#: what pip would have written besides
_LINKED = f"""RUN found=$(python3 -c 'import site; print(site.getsitepackages()[0])') \\
    && rm -rf "$found" && ln -s {PACKAGES} "$found" \\
    && printf '#!/usr/bin/env python3\\nfrom airflow.__main__ import main\\nmain()\\n' > /usr/local/bin/airflow \\
    && chmod +x /usr/local/bin/airflow
"""


@dataclass(frozen=True, kw_only=True)
class AirflowImage:
    """An image on the engine, and what its containers mount besides."""

    name: str
    mounts: tuple[str, ...] = ()


def whole_image() -> AirflowImage:
    """Build the deployment's own image, as docs/operations.md says."""
    subprocess.run(["make", "images", "ARGS=airflow"], cwd=REPOSITORY, check=True)
    return AirflowImage(name="modelway-airflow:0.1.0")


def mounted_image() -> AirflowImage:
    """Build an image of the same Dockerfile that has everything but the packages."""
    name = f"modelway-airflow:test-{os.getpid()}"
    _, last = DOCKERFILE.read_text().rsplit("\nFROM ", 1)
    assert last.count(_COPIED) == 1, "the Dockerfile gets its packages in another way"
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        (context / "Dockerfile").write_text(f"FROM {last.replace(_COPIED, _LINKED)}")
        for folder in ("plugins", "dags"):
            shutil.copytree(REPOSITORY / folder, context / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for file in (*DOCKERFILE.parent.glob("*.sh"), DOCKERFILE.parent / "health.py"):
            shutil.copy(file, context)
        subprocess.run(["docker", "build", "--quiet", "--tag", name, scratch], check=True)
    return AirflowImage(name=name, mounts=(f"{sysconfig.get_path('purelib')}:{PACKAGES}:ro",))
