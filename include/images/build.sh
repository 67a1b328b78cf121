#!/bin/sh
# Builds one of our images: sh include/images/build.sh job|server|gateway|airflow [NAME[:TAG]]
# TORCH_INDEX chooses the build of torch of job and airflow (default: CPU); DOCKER_HOST chooses the engine. Where the
# index does not answer, the wheel that pip finds on this machine is put into the build's context.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
kind=${1:?job, server, gateway or airflow}
image=${2:-modelway-$kind:$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")}
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/$kind/Dockerfile" "$root/requirements.txt" "$context"
if [ "$kind" = job ] || [ "$kind" = airflow ]; then
    mkdir "$context/wheels"
    answers='import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)'
    if ! "$python" -c "$answers" "$index" >/dev/null 2>&1; then
        torch=$(grep '^torch==' "$root/requirements.txt")
        echo "$index does not answer: taking $torch from where pip finds it" >&2
        "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$context/wheels" "$torch"
    fi
fi
if [ "$kind" = airflow ]; then
    "$python" -c '
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["torch"], *extras["postgres"], *extras["celery"], sep="\n")' \
        "$root/pyproject.toml" >"$context/packages.txt"
    tar -C "$root" --exclude=__pycache__ -c plugins dags | tar -x -C "$context"
    cp "$here/airflow/"*.sh "$here/airflow/health.py" "$context"
elif [ "$kind" = gateway ]; then
    cp "$root/plugins/modelway/endpoints/gateway/agent.py" "$context"
elif [ "$kind" = server ]; then
    # The server, and what its loader fetches models with: the client of registries (oci) and what that imports.
    mkdir "$context/modelway"
    (
        cd "$root/plugins/modelway"
        find server oci -name '*.py'
        find job -maxdepth 1 -name '*.py'
        ls __init__.py sketches.py torch_program.py errors.py failures.py names.py artifacts/__init__.py artifacts/whole_files.py
    ) | tar -C "$root/plugins/modelway" -c -T - | tar -x -C "$context/modelway"
fi
tar -C "$context" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . |
    docker build --build-arg "TORCH_INDEX=$index" --tag "$image" -
