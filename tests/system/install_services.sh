#!/bin/sh
# Installs what tests drive for real, where it is missing: MLflow, clients of model servers, estimators, PostgreSQL, an OCI registry, readers of images, a browser.
set -eu
# Those beside which the others are installed.
trap wait EXIT
for pair in "mlflow:MLflow" "clients:clients of model servers" "estimators:estimators and their converters"; do
    sh "$(dirname "$0")/install_${pair%%:*}.sh" || echo "not installed, their tests are skipped: ${pair#*:}" >&2 &
done
missing=""
for pair in docker-registry:docker-registry skopeo:skopeo umoci:umoci chromium:chromium chromedriver:chromium-driver; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# Its programs are in no folder of PATH.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, their tests are skipped:$missing" >&2
    exit 0
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
