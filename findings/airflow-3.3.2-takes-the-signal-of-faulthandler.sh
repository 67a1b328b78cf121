#!/bin/sh
# apache-airflow 3.3.2 sets a handler of its own for SIGSEGV when its DagBag loads a DAG file, and leaves it: the handler
# of Python's faulthandler (PYTHONFAULTHANDLER=1) is gone from then on, while faulthandler.is_enabled() still says True.
# A process that has loaded a DAG file, such as one of a task, then writes no stack of Python if a library crashes.
# Matters to whoever sets PYTHONFAULTHANDLER=1 to find such a crash: enable it again after the DAG file was loaded.
# Exits 0 while this is so, 1 when it changes. Nothing crashes here.
set -e
work=$(mktemp -d -t finding-XXXXXX)
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet apache-airflow==3.3.2
mkdir "$work/dags"
printf 'from airflow.sdk import DAG\n\nwith DAG(dag_id="empty", schedule=None):\n    pass\n' > "$work/dags/empty.py"
export AIRFLOW_HOME="$work/home" AIRFLOW__CORE__LOAD_EXAMPLES=False PYTHONFAULTHANDLER=1
seen=$("$work/venv/bin/python" - "$work/dags/empty.py" <<'PYTHON' 2>"$work/log" | tail -n 1
import faulthandler
import signal
import sys

from airflow.dag_processing.dagbag import DagBag


def handler():
    found = signal.getsignal(signal.SIGSEGV)
    return getattr(found, "__module__", None) if callable(found) and hasattr(found, "__code__") else "faulthandler or none"


before = handler()
bag = DagBag(dag_folder=sys.argv[1])
assert [*bag.dags] == ["empty"] and not bag.import_errors, bag.import_errors
print(f"before: {before}; after: {handler()}; faulthandler.is_enabled(): {faulthandler.is_enabled()}")
PYTHON
)
echo "$seen"
rm -rf "$work"
case $seen in
"before: faulthandler or none; after: airflow."*"faulthandler.is_enabled(): True") ;;
*) exit 1 ;;
esac
