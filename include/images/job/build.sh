#!/bin/sh
# Builds the job image: sh include/images/job/build.sh [NAME[:TAG]]
# TORCH_INDEX chooses torch's build (default: CPU); DOCKER_HOST chooses the engine. Where the index does not answer,
# the wheel that pip finds on this machine is put into the build's context.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python=${PYTHON:-python3}
image=${1:-modelway-job:$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")}
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/Dockerfile" "$root/requirements.txt" "$context"
mkdir "$context/wheels"
answers='import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)'
if ! "$python" -c "$answers" "$index" >/dev/null 2>&1; then
    torch=$(grep '^torch==' "$root/requirements.txt")
    echo "$index does not answer: taking $torch from where pip finds it" >&2
    "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$context/wheels" "$torch"
fi
tar -C "$context" -c . | docker build --build-arg "TORCH_INDEX=$index" --tag "$image" -
