#!/bin/sh
# Writes .env, the secrets and settings of docker-compose.yaml, beside it: sh include/compose/make_env.sh [FILE]
# Every secret is random, and one that is there already stays as it is: run it again after an upgrade.
set -eu
umask 077
file=${1:-$(cd "$(dirname "$0")/../.." && pwd)/.env}
touch "$file"
chmod 600 "$file"
# A last line without its end would become one with what is added.
[ -z "$(tail -c 1 "$file")" ] || echo >>"$file"

add() { grep -q "^$1=" "$file" || printf '%s=%s\n' "$1" "$2" >>"$file"; }
word() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

grep -q '^#' "$file" || echo '# Made by include/compose/make_env.sh. Secrets: keep this file with the backups, and out of the repository.' >>"$file"
for name in ADMIN_PASSWORD POSTGRES_PASSWORD AIRFLOW_DB_PASSWORD LINEAGE_DB_PASSWORD REDIS_PASSWORD API_SECRET_KEY JWT_SECRET; do
    add "$name" "$(word)"
done
# 32 bytes in URL-safe base64, as Fernet wants them
add FERNET_KEY "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
add COMPOSE_PROJECT_NAME modelway
echo "$file has what docker compose needs; the password of the user admin is ADMIN_PASSWORD in it"
