#!/bin/sh
# Makes .venv-mlflow, where the MLflow server of the tests and of bench/lineage lies, unless it is there already.
set -eu
cd "$(dirname "$0")/../.."
wanted=tests/system/requirements-mlflow.txt
cmp -s "$wanted" .venv-mlflow/.installed && exit 0
echo "installing MLflow into .venv-mlflow"
# Two that start at once: the second waits, and finds it made.
exec 9>.venv-mlflow.lock
flock 9
cmp -s "$wanted" .venv-mlflow/.installed && exit 0
rm -rf .venv-mlflow
"${PYTHON:-python3.11}" -m venv .venv-mlflow
.venv-mlflow/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" .venv-mlflow/.installed
