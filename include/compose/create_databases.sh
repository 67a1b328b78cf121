#!/bin/sh
# Run once by the image of PostgreSQL, when its volume is empty: a database and a user each for Airflow and the lineage.
set -eu
for name in airflow lineage; do
    case $name in airflow) password=$AIRFLOW_DB_PASSWORD ;; lineage) password=$LINEAGE_DB_PASSWORD ;; esac
    psql --username postgres --quiet --set ON_ERROR_STOP=1 --set "name=$name" --set "password=$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
