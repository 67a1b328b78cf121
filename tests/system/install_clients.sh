#!/bin/sh
# Makes .venv-clients, where KServe's and Triton's clients lie, unless it is there already.
set -eu
name=clients what="clients of model servers"
. "$(dirname "$0")/new_environment.sh"
"${PYTHON:-python3.11}" -m venv .venv-clients
.venv-clients/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" .venv-clients/.installed
