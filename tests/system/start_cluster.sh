#!/bin/sh
# Gives the tests a Docker engine, a Kubernetes and the images of their jobs, and prints `export KUBECONFIG=...`.
# What answers already is used as it is: the engine of DOCKER_HOST, the cluster of KUBECONFIG. Else both are started by
# CLUSTER_SCRIPT, a script with the commands up, base and env; without one: start a Docker engine and
# `kind create cluster`, and load the images into it (`kind load docker-image`).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
script=${CLUSTER_SCRIPT:-$root/../shared/cluster/cluster}
base=python:3.11-slim-bookworm
job=$(sed -n 's/^JOB_IMAGE = "\(.*\)"$/\1/p' "$root/plugins/modelway/backends/base.py")

answers() { command -v "$1" >/dev/null 2>&1 && "$@" >/dev/null 2>&1; }

if [ -z "${KUBECONFIG:-}" ] && [ -x "$script" ]; then
    "$script" up >&2
    eval "$("$script" env)"
    # What the launchers' objects are checked against; their controllers do not run.
    "$script" crds >&2
fi
if ! answers docker info; then
    [ -x "$script" ] && "$script" up >&2 || { echo "no Docker engine answers" >&2; exit 1; }
fi
if ! answers docker image inspect "$base"; then
    if [ -x "$script" ]; then "$script" base >&2; else docker pull --quiet "$base" >&2; fi
fi
answers docker image inspect "$job" || make -C "$root" images ARGS=job >&2
# Built of what is there: they have code of this tree.
make -C "$root" images ARGS="server gateway" >&2
if [ -n "${KUBECONFIG:-}" ]; then
    answers kubectl get --raw /readyz || { echo "the cluster of KUBECONFIG=$KUBECONFIG does not answer" >&2; exit 1; }
    echo "export KUBECONFIG=$KUBECONFIG"
fi
