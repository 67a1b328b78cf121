"""``python -m modelway.job FOLDER`` as a process: what it does, and what it says when it cannot."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from modelway.job.contract import read_events, recorded_checkpoints, recorded_datasets
from modelway.job.evaluations import evaluation_outcomes
from modelway.runs.reported import stopped_early

from tests.job_folders import write_job

PLUGINS = Path(__file__).parents[2] / "plugins"
EVALUATE = {"action": "evaluate", "inputs": {"checkpoint": "inputs/checkpoint"}}


def run(folder):
    return subprocess.run(
        [sys.executable, "-m", "modelway.job", folder],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def reason(folder):
    return json.loads((folder / "error.json").read_text())["reason"]


def refused(folder, *, said):
    done = run(folder)
    assert done.returncode == 1
    assert reason(folder).startswith(said), reason(folder)
    return done


def test_train_is_called_with_the_job(tmp_path):
    code = (
        "import random\nfrom pathlib import Path\nimport beside\n"
        "def train(job):\n"
        "    job.log(step=1, loss=job.params['lr'])\n"
        "    with job.checkpoint(step=1) as path:\n"
        "        path.write_text(f'{random.random()} {Path().absolute()} {beside.WHAT}')\n"
    )
    texts = []
    for name in ("a", "b"):
        folder = write_job(tmp_path / name, code=code, params={"lr": 0.5}, seed=3)
        (folder / "code" / "beside.py").write_text("WHAT = 'beside'\n")
        assert run(folder).returncode == 0
        (checkpoint,) = recorded_checkpoints(folder)
        drawn, place, what = checkpoint.path.read_text().split()
        assert (place, what) == (str(folder / "code"), "beside")
        texts.append(drawn)
        assert [event["value"] for event in read_events(folder) if event["kind"] == "metric"] == [0.5]
        assert not (folder / "error.json").exists()
    assert texts[0] == texts[1], "the same seed draws the same numbers"


def test_evaluate_is_called_with_the_checkpoint(tmp_path):
    code = "def evaluate(job, checkpoint):\n    return {'loss': float(checkpoint.read_text()), 'worst': float('nan')}\n"
    folder = write_job(tmp_path, code=code, **EVALUATE)
    (folder / "inputs").mkdir()
    (folder / "inputs" / "checkpoint").write_text("0.25")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "output" / "metrics.json").read_text()) == {"loss": 0.25, "worst": "nan"}
    assert 'metrics: {"loss": 0.25, "worst": "nan"}' in done.stdout


def test_evaluate_and_export_know_which_checkpoint_they_get(tmp_path):
    code = (
        "def evaluate(job, checkpoint):\n"
        "    print(checkpoint.id, checkpoint.stage, checkpoint.step, open(checkpoint).read())\n"
        "    return {'loss': 1.0}\n"
        "def export(job, checkpoint):\n    raise ValueError(f'export of {checkpoint.id} {checkpoint.step}')\n"
    )
    known = {"checkpoint": {"id": "warmup-000002", "stage": "warmup", "step": 2}}
    for action in ("evaluate", "freeze"):
        folder = write_job(tmp_path / action, code=code, **{**EVALUATE, "action": action}, checkpoints=known)
        (folder / "inputs").mkdir()
        (folder / "inputs" / "checkpoint").write_text("0.25")
        done = run(folder)
        found_text = "warmup-000002 warmup 2 0.25" if action == "evaluate" else "ValueError: export of warmup-000002 2"
        assert found_text in done.stdout + done.stderr


def test_code_that_raises_is_reported_with_type_message_and_line(tmp_path):
    code = "import json\ndef train(job):\n    deeper(job)\ndef deeper(job):\n    json.loads('{')\n"
    done = refused(write_job(tmp_path, code=code), said="JSONDecodeError: Expecting property name")
    assert reason(tmp_path).endswith("(tiny.py:5 in deeper)")
    assert "Traceback" in done.stderr
    assert 'tiny.py", line 3, in train' in done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('first\\nsecond')", "ValueError: first (tiny.py:2 in train)"),
        ("raise ValueError", "ValueError: no message (tiny.py:2 in train)"),
        ("raise SystemExit(0)", "SystemExit: 0 (tiny.py:2 in train)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: no message (tiny.py:2 in train)"),
        ("job.params['lr']", "KeyError: 'lr' (tiny.py:2 in train)"),
        ("train()", "TypeError: train() missing 1 required positional argument: 'job' (tiny.py:2 in train)"),
        ("job.log(step=1, loss='high')", "ValueError: could not convert string to float: 'high' (tiny.py:2 in train)"),
    ],
)
def test_every_way_to_raise_gives_one_line(tmp_path, body, said):
    refused(write_job(tmp_path, code=f"def train(job):\n    {body}\n"), said=said)


def test_code_that_does_not_load_is_reported(tmp_path):
    refused(
        write_job(tmp_path / "a", code="def train(job:\n"), said="SyntaxError: '(' was never closed (tiny.py, line 1"
    )
    refused(
        write_job(tmp_path / "b", code="1 / 0\n"), said="ZeroDivisionError: division by zero (tiny.py:1 in <module>)"
    )
    code = "import no_such_library\n"
    refused(
        write_job(tmp_path / "c", code=code), said="ModuleNotFoundError: No module named 'no_such_library' (tiny.py:1"
    )
    refused(write_job(tmp_path / "d"), said="ModuleNotFoundError: No module named 'tiny'")


def test_a_missing_function_is_named(tmp_path):
    folder = write_job(tmp_path, code="def trian(job): ...\n")
    refused(folder, said="AttributeError: tiny.py defines no function train")


def test_a_module_that_has_the_name_of_another_is_reported(tmp_path):
    folder = write_job(tmp_path, module="modelway.py")
    (folder / "code" / "modelway.py").write_text("def train(job): ...\n")
    refused(folder, said="ImportError: modelway.py has the name of another module; give the file another name")


def test_a_file_called_like_a_module_of_the_contract_does_no_harm(tmp_path):
    folder = write_job(
        tmp_path, code="def train(job):\n    with job.checkpoint(step=1) as path: path.write_text('x')\n"
    )
    for name in ("json.py", "hashlib.py", "contextlib.py", "traceback.py", "contract.py"):
        (folder / "code" / name).write_text("raise RuntimeError('shadowed')\n")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert len(recorded_checkpoints(folder)) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("None", "TypeError: evaluate must give a mapping from metric names to numbers, got None"),
        ("{}", "TypeError: evaluate must give a mapping from metric names to numbers, got {}"),
        ("0.5", "TypeError: evaluate must give a mapping from metric names to numbers, got 0.5"),
        ("{'loss': 'low'}", "TypeError: evaluate must give a number as the metric 'loss', got 'low'"),
        ("{'loss': None}", "TypeError: evaluate must give a number as the metric 'loss', got None"),
        ("{'loss': [1]}", "TypeError: evaluate must give a number as the metric 'loss', got [1]"),
    ],
)
def test_an_evaluation_that_is_none_is_refused(tmp_path, value, said):
    folder = write_job(tmp_path, code=f"def evaluate(job, checkpoint):\n    return {value}\n", **EVALUATE)
    refused(folder, said=said)
    assert not (folder / "output" / "metrics.json").exists()


def test_a_job_of_an_unknown_format_is_refused(tmp_path):
    folder = write_job(tmp_path, code="def train(job): ...\n")
    (folder / "job.json").write_text(json.dumps({"format": 99}))
    refused(folder, said=f"ValueError: {folder}/job.json has format 99, this code knows 1")


def test_an_error_of_an_earlier_try_is_forgotten(tmp_path):
    folder = write_job(tmp_path, code="def train(job): ...\n")
    (folder / "error.json").write_text('{"reason": "old"}')
    assert run(folder).returncode == 0
    assert not (folder / "error.json").exists()


SCRIPT = """
import json, os, pathlib, sys
sys.stdout.write('told')
output = pathlib.Path(os.environ['MODELWAY_OUTPUT'])
names = ('MODELWAY_PARAMS', 'MODELWAY_SEED', 'MODELWAY_CHECKPOINT', 'MODELWAY_RESUME_FROM', 'MODELWAY_JOB_FOLDER')
(output / 'seen.json').write_text(json.dumps({name: os.environ[name] for name in names} | {'python': sys.executable}))
(output / 'checkpoints').mkdir(exist_ok=True)
(output / 'checkpoints' / 'epoch-2.txt').write_text('two')
"""


def test_a_command_trains(tmp_path):
    folder = write_job(
        tmp_path, command=("python", "run.py"), params={"lr": 1}, seed=5, inputs={"checkpoint": "inputs/c"}
    )
    (folder / "code" / "run.py").write_text(SCRIPT)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "told"
    seen = json.loads((folder / "output" / "seen.json").read_text())
    assert json.loads(seen["MODELWAY_PARAMS"]) == {"lr": 1}
    assert seen["MODELWAY_SEED"] == "5"
    assert seen["MODELWAY_CHECKPOINT"] == str(folder / "inputs" / "c")
    assert seen["MODELWAY_RESUME_FROM"] == ""
    assert seen["MODELWAY_JOB_FOLDER"] == str(folder)
    assert seen["python"] == sys.executable, "the command's python is the one that has the model's requirements"
    assert [(each.id, each.step) for each in recorded_checkpoints(folder)] == [("train-epoch-2.txt", 2)]


GIVEN = {
    "datasets": {"rows": {"uri": "/data/rows", "digest": "sha256:1", "version": "7"}},
    "interval": {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"},
    "partition": "north",
}


def test_the_data_sets_that_training_was_given_are_recorded_once(tmp_path):
    code = "def train(job):\n    assert job.partition == 'north'\n    job.dataset(name='mine', uri='file:///x')\n"
    folder = write_job(tmp_path, code=code, **GIVEN)
    for _ in range(2):
        assert run(folder).returncode == 0
    assert recorded_datasets(read_events(folder)) == [
        {"name": "rows", "uri": "/data/rows", "digest": "sha256:1", "version": "7", "rows": None},
        {"name": "mine", "uri": "file:///x", "digest": None, "version": None, "rows": None},
    ]
    assert [event["name"] for event in read_events(folder) if event["kind"] == "dataset"] == ["rows", "mine", "mine"]


def test_a_command_is_reported_its_data_in_the_environment(tmp_path):
    names = "MODELWAY_DATASETS MODELWAY_INTERVAL_START MODELWAY_INTERVAL_END MODELWAY_PARTITION"
    script = f"import json, os; print(json.dumps([os.environ[name] for name in {names.split()!r}]))"
    done = run(write_job(tmp_path / "given", code="", command=("python", "-c", script), **GIVEN))
    datasets, *rest = json.loads(done.stdout)
    assert json.loads(datasets) == GIVEN["datasets"]
    assert rest == ["2026-03-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00", "north"]
    done = run(write_job(tmp_path / "none", code="", command=("python", "-c", script)))
    assert json.loads(done.stdout) == ["{}", "", "", ""]


def test_a_command_continues_from_its_last_checkpoint(tmp_path):
    folder = write_job(tmp_path, command=("python", "run.py"))
    (folder / "code" / "run.py").write_text(SCRIPT)
    assert run(folder).returncode == 0
    assert run(folder).returncode == 0
    seen = json.loads((folder / "output" / "seen.json").read_text())
    assert seen["MODELWAY_RESUME_FROM"] == str(folder / "output" / "checkpoints" / "epoch-2.txt")


def test_a_command_evaluates(tmp_path):
    folder = write_job(
        tmp_path, command=("sh", "-c", 'echo \'{"loss": 0.5}\' > "$MODELWAY_OUTPUT/metrics.json"'), **EVALUATE
    )
    assert run(folder).returncode == 0
    assert json.loads((folder / "output" / "metrics.json").read_text()) == {"loss": 0.5}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("true",), "FileNotFoundError: the evaluate command wrote no output/metrics.json"),
        (("sh", "-c", "echo '{' > $MODELWAY_OUTPUT/metrics.json"), "JSONDecodeError: Expecting property name"),
        (
            ("sh", "-c", "head -c 5000000 /dev/zero > $MODELWAY_OUTPUT/metrics.json"),
            "ValueError: the evaluate command's output/metrics.json cannot be read: it has more than 4,194,304 bytes",
        ),
        (
            ("sh", "-c", "ln -s /etc/hostname $MODELWAY_OUTPUT/metrics.json"),
            "ValueError: the evaluate command's output/metrics.json cannot be read: a link leads out of its folder",
        ),
        (
            ("sh", "-c", "mkfifo $MODELWAY_OUTPUT/metrics.json"),
            "ValueError: the evaluate command's output/metrics.json cannot be read: it is not a plain file",
        ),
        (("sh", "-c", "exit 3"), "RuntimeError: the command ['sh', '-c', 'exit 3'] ended with exit status 3"),
        (("no-such-program",), "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program'"),
    ],
)
def test_a_command_that_fails_is_reported(tmp_path, words, said):
    folder = write_job(tmp_path, command=words, **EVALUATE)
    (folder / "output").mkdir()
    (folder / "output" / "metrics.json").write_text('{"loss": 1.0}')
    refused(folder, said=said)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_is_a_killed_job(tmp_path, number):
    folder = write_job(tmp_path, command=("sh", "-c", f"kill -{int(number)} $$"))
    done = run(folder)
    assert done.returncode == -number
    assert f"the command was killed by signal {int(number)}" in done.stderr
    assert not (folder / "error.json").exists()


def test_threads_and_exit_handlers_do_not_hold_the_job(tmp_path):
    code = (
        "import atexit, threading, time\n"
        "def train(job):\n"
        "    atexit.register(lambda: 1 / 0)\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    print('done', end='')\n"
    )
    done = run(write_job(tmp_path, code=code))
    assert (done.returncode, done.stdout) == (0, "done")


def test_a_verify_job_without_an_archive_is_reported(tmp_path):
    refused(write_job(tmp_path, action="verify"), said="ValueError: the verify job has no archive")


def test_an_input_that_cannot_be_read_is_reported_by_the_code_that_reads_it(tmp_path):
    code = "def evaluate(job, checkpoint):\n    return {'loss': float(checkpoint.read_text())}\n"
    refused(write_job(tmp_path, code=code, **EVALUATE), said="FileNotFoundError: [Errno 2] No such file or directory:")
    assert reason(tmp_path).endswith("(tiny.py:2 in evaluate)")


def test_a_home_that_cannot_be_written_does_no_harm(tmp_path):
    folder = write_job(tmp_path / "job", code="def train(job): ...\n")
    (tmp_path / "home").write_text("a file in its place")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PLUGINS), "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "modelway.job", folder]
    assert subprocess.run(command, env=environment, cwd=folder, timeout=60).returncode == 0


def test_a_training_that_is_not_good_enough_ends_early_and_has_succeeded(tmp_path):
    code = (
        "def train(job):\n"
        "    for step in range(1, 6):\n"
        "        job.log(step=step, loss=float(step))\n"
        "        with job.checkpoint(step=step) as path:\n"
        "            path.write_text(str(step))\n"
    )
    folder = write_job(tmp_path, code=code, stop={"metric": "loss", "above": 1.5, "below": None, "from_step": 3})
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "the training ends early after checkpoint train-000003: loss is 3, above 1.5" in done.stdout
    assert [each.step for each in recorded_checkpoints(folder)] == [1, 2, 3]
    assert not (folder / "error.json").exists()
    assert stopped_early(folder) == "loss is 3, above 1.5"
    # The next attempt, where this one was killed before its end was known, trains no further.
    again = run(folder)
    assert (again.returncode, len(recorded_checkpoints(folder))) == (0, 3), again.stderr
    assert "the training has ended early: loss is 3, above 1.5" in again.stdout


def test_each_evaluated_checkpoint_has_the_parameters_of_its_candidate(tmp_path):
    code = "def evaluate(job, checkpoint): return {'rate': job.params['rate'], 'width': job.params['width']}\n"
    inputs = {f"checkpoint.000{place}.c{place}": f"inputs/{place}" for place in (1, 2)}
    checkpoints = {name: {"id": name, "params": {"rate": place}} for place, name in enumerate(inputs, start=1)}
    job = {"action": "evaluate", "params": {"rate": 0, "width": 8}, "inputs": inputs, "checkpoints": checkpoints}
    folder = write_job(tmp_path, code=code, **job)
    (folder / "inputs").mkdir()
    for name in inputs:
        (folder / "inputs" / name).write_text("x")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    outcomes = evaluation_outcomes(read_events(folder))
    assert [outcomes[name]["metrics"] for name in inputs] == [{"rate": 1, "width": 8}, {"rate": 2, "width": 8}]
