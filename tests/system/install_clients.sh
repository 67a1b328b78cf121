#!/bin/sh
# Makes .venv-clients, where KServe's and Triton's clients lie, unless it is there already.
set -eu
cd "$(dirname "$0")/../.."
wanted=tests/system/requirements-clients.txt
cmp -s "$wanted" .venv-clients/.installed && exit 0
# Two that start at once: the second waits, and finds it made.
exec 9>.venv-clients.lock
flock 9
cmp -s "$wanted" .venv-clients/.installed && exit 0
echo "installing clients of model servers into .venv-clients"
rm -rf .venv-clients
"${PYTHON:-python3.11}" -m venv .venv-clients
.venv-clients/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" .venv-clients/.installed
