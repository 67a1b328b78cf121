#!/bin/sh
# The service `gateway` of docker-compose.yaml: brings back the endpoints that served here, then works on the queue
# whose tasks deploy and promote. Servers and gateways are processes of this container, which outlive the worker's tasks.
set -eu
modelway endpoint up || echo "not all endpoints serve again: see modelway endpoint list" >&2
exec airflow celery worker --queues "${MODELWAY_SERVING_QUEUE:?}" --concurrency "${MODELWAY_SERVING_TASKS:-2}" --skip-serve-logs
