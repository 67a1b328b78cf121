#!/bin/sh
# apache-airflow-providers-celery 3.26.0 (the newest, with Airflow 3.3.2) allows celery 5.7.0, and pip installs it: pip
# check has nothing to say. With it neither a worker nor a scheduler with the CeleryExecutor starts: the executor imports
# `retry` from celery.backends.database, which celery 5.6.3 has and 5.7.0 does not. The message of `airflow celery worker`
# names another reason: "This feature is only available in Airflow versions >= 2.8.0".
# Matters to whoever installs the provider without Airflow's own constraints: celery<5.7 is needed.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet apache-airflow==3.3.2 apache-airflow-providers-celery==3.26.0 celery==5.7.0
"$work/venv/bin/pip" check | grep -i celery && exit 1
export AIRFLOW_HOME="$work/home" AIRFLOW__CORE__EXECUTOR=CeleryExecutor AIRFLOW__CORE__LOAD_EXAMPLES=False
run() {
    "$work/venv/bin/python" -c 'import airflow.providers.celery.executors.celery_executor' 2>&1 | tail -n 1
    "$work/venv/bin/airflow" celery worker 2>&1 | tail -n 1
}
seen=$(run)
echo "celery 5.7.0: $seen"
"$work/venv/bin/pip" install --quiet celery==5.6.3
older=$("$work/venv/bin/python" -c 'import airflow.providers.celery.executors.celery_executor; print("it is imported")' 2>&1 | tail -n 1)
echo "celery 5.6.3: $older"
rm -rf "$work"
case $seen in *"cannot import name 'retry'"*"only available in Airflow versions >= 2.8.0"*) ;; *) exit 1 ;; esac
[ "$older" = "it is imported" ]
