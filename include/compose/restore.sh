#!/bin/sh
# Brings a deployment back from a folder that backup.sh made: sh include/compose/restore.sh FOLDER
# All that is in the volumes now is replaced. Needs the .env of the backup, or none: it is copied then.
set -eu
folder=$(cd "${1:?a folder of backup.sh}" && pwd)
# Before anything is erased: all of the backup is there.
for part in airflow.dump lineage.dump home.tar registry.tar; do
    [ -s "$folder/$part" ] || { echo "$folder/$part is missing or empty: this is no whole backup, and nothing was changed" >&2; exit 1; }
done
cd "$(dirname "$0")/../.."
[ -e .env ] || { umask 077; cp "$folder/env" .env; }
docker compose down --volumes --timeout 60
docker compose up --detach --wait postgres registry
for name in airflow lineage; do
    docker compose exec -T postgres pg_restore --username postgres --dbname "$name" --exit-on-error <"$folder/$name.dump"
done
docker compose run --rm --no-deps -T --entrypoint tar migrate -C /srv/modelway -xf - <"$folder/home.tar"
docker compose exec -T registry tar -C /var/lib/registry -xf - <"$folder/registry.tar"
echo "restored from $folder; now: docker compose up --detach --wait"
