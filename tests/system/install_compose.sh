#!/bin/sh
# Installs the plugin `docker compose` where it is missing: one program, of Debian 13, that runs on Debian 12 as well.
set -eu
docker compose version >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "docker compose is missing" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir -p lists/partial cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >trixie.list
: >status
# Nothing of the machine's own lists and packages changes.
options="-o Dir::Etc::sourcelist=$scratch/trixie.list -o Dir::Etc::sourceparts=- -o Dir::State=$scratch
    -o Dir::State::lists=$scratch/lists -o Dir::State::status=$scratch/status -o Dir::Cache=$scratch/cache -o APT::Sandbox::User=root"
# shellcheck disable=SC2086
apt-get $options update -qq
# shellcheck disable=SC2086
apt-get $options download -qq docker-compose
dpkg -x docker-compose_*.deb unpacked
install -D unpacked/usr/libexec/docker/cli-plugins/docker-compose /usr/local/lib/docker/cli-plugins/docker-compose
docker compose version
