#!/bin/sh
# Saves everything of the deployment into a new folder: sh include/compose/backup.sh FOLDER
# The databases first: a file of the artifacts is never changed, and all that the databases name is there already. It can
# run while Airflow does, but not while `modelway gc` removes files.
set -eu
target=${1:?a new folder}
target=${target%/}
cd "$(dirname "$0")/../.."
umask 077
[ ! -e "$target" ] || { echo "$target exists already" >&2; exit 1; }
# It has its name when it is whole.
folder=$target.part
rm -rf "$folder"
mkdir "$folder"
for name in airflow lineage; do
    docker compose exec -T postgres pg_dump --username postgres --format custom "$name" >"$folder/$name.dump"
done
# tar ends with 1 where a file grew meanwhile, such as the log of a job that runs.
docker compose run --rm --no-deps -T --entrypoint tar migrate -C /srv/modelway -cf - . >"$folder/home.tar" || [ $? = 1 ]
docker compose exec -T registry tar -C /var/lib/registry -cf - . >"$folder/registry.tar" || [ $? = 1 ]
cp .env "$folder/env"
mv "$folder" "$target"
echo "saved in $target: $(du -sh "$target" | cut -f1); it has secrets"
