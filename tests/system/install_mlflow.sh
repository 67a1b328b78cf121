#!/bin/sh
# Makes .venv-mlflow, where the MLflow server of the tests and of bench/lineage lies, unless it is there already.
set -eu
name=mlflow what="MLflow"
. "$(dirname "$0")/new_environment.sh"
install_wanted
