#!/bin/sh
# Saves everything of the deployment into a new folder: sh include/compose/backup.sh FOLDER
# The databases first: a file of the artifacts is never changed, and all that the databases name is there already. It can
# run while Airflow does, but not while `modelway gc` removes files.
set -eu
folder=${1:?a new folder}
cd "$(dirname "$0")/../.."
umask 077
mkdir "$folder"
for name in airflow lineage; do
    docker compose exec -T postgres pg_dump --username postgres --format custom "$name" >"$folder/$name.dump"
done
# tar ends with 1 where a file grew meanwhile, such as the log of a job that runs.
docker compose run --rm --no-deps -T --entrypoint tar migrate -C /srv/modelway -cf - . >"$folder/home.tar" || [ $? = 1 ]
docker compose exec -T registry tar -C /var/lib/registry -cf - . >"$folder/registry.tar" || [ $? = 1 ]
cp .env "$folder/env"
echo "saved in $folder: $(du -sh "$folder" | cut -f1); it has secrets"
