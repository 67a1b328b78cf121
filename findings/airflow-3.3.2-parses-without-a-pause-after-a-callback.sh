#!/bin/sh
# Airflow 3.3.2: after one callback of a run of a versioned bundle the DAG processor parses the callback's file again as
# soon as it has parsed it, until it is started again: a core is busy. It finds when it parsed a file by bundle and path;
# the callback's file has the run's version besides, so that it has an entry of its own, which has no such time, and
# which is the one that is found.
# Matters to whoever has a versioned bundle, such as the GitDagBundle, and DAGs with on_success_callback or
# on_failure_callback, tasks that are killed, or triggers that end their task. min_file_process_interval changes nothing.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet apache-airflow==3.3.2
mkdir "$work/dags" "$work/lib"
cat > "$work/dags/one.py" <<'EOF'
from airflow.sdk import DAG
with DAG("one", schedule=None):
    pass
EOF
cat > "$work/lib/versioned.py" <<'EOF'
from pathlib import Path
from airflow.dag_processing.bundles.base import BaseDagBundle
class Versioned(BaseDagBundle):
    supports_versioning = True
    path = Path(__file__).parents[1] / "dags"
    def get_current_version(self):
        return "1"
    def refresh(self):
        pass
EOF
cat > "$work/lib/callback.py" <<'EOF'
from airflow.callbacks.callback_requests import DagCallbackRequest
from airflow.callbacks.database_callback_sink import DatabaseCallbackSink
DatabaseCallbackSink().send(DagCallbackRequest(
    filepath="one.py", bundle_name="b", bundle_version="1", dag_id="one", run_id="r", is_failure_callback=False, msg=""))
EOF
export AIRFLOW_HOME="$work/home" PYTHONPATH="$work/lib" AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST='[{"name": "b", "classpath": "versioned.Versioned", "kwargs": {}}]'
export AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL=600
"$work/venv/bin/airflow" db migrate > "$work/migrate.txt" 2>&1
parsed() {
    timeout -k 10 60 "$work/venv/bin/airflow" dag-processor > "$work/log.txt" 2>&1 || true
    find "$work/home/logs" -name one.py.log -exec cat {} + | grep -c "Filling up the DagBag" || true
    find "$work/home/logs/dag_processor" -name one.py.log -delete
}
without=$(parsed)
"$work/venv/bin/python" "$work/lib/callback.py" > "$work/callback.txt" 2>&1
with=$(parsed)
echo "parsed in a minute: $without times without a callback, $with times with one"
rm -rf "$work"
[ "$without" -le 2 ] && [ "$with" -ge 5 ]
