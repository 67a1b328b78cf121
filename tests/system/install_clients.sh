#!/bin/sh
# Makes .venv-clients, where KServe's and Triton's clients lie, unless it is there already.
set -eu
name=clients what="clients of model servers"
. "$(dirname "$0")/new_environment.sh"
install_wanted
