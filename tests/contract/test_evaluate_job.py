"""A job of several checkpoints, as a process: what each gets, and what one that fails or dies leaves to the others."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from modelway.job.evaluations import evaluation_outcomes, evaluations_cut_off
from modelway.job.events import append_event, read_events

from tests.job_folders import wait_for, write_job

PLUGINS = Path(__file__).parents[2] / "plugins"
NAMES = ("checkpoint.0001.train-000001", "checkpoint.0002.train-000002", "checkpoint.0003.train-000003")
#: a checkpoint's text says what its evaluation does
CODE = """
import os, random, signal, sys, time
with open(os.environ['PWD_OF_TEST'] + '/imports.txt', 'a') as file: file.write('x')
def evaluate(job, checkpoint):
    text = checkpoint.read_text()
    with open(job.folder / 'calls.txt', 'a') as file: file.write(f'{text} {os.getpid()}\\n')
    if text == 'raise': raise ValueError('spoilt')
    if text == 'segfault': os.kill(os.getpid(), signal.SIGSEGV)
    if text == 'exit': os._exit(7)
    if text == 'wait': time.sleep(600)
    return {'loss': float(text), 'draw': random.random()}
"""


def folder_of(folder, *texts, code=CODE, **fields):
    inputs = {name: f"inputs/{name}" for name in NAMES[: len(texts)]}
    write_job(folder, code=code, action="evaluate", inputs=inputs, **fields)
    (folder / "inputs").mkdir(exist_ok=True)
    for name, text in zip(NAMES, texts, strict=False):
        (folder / "inputs" / name).write_text(text)
    return folder


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "modelway.job", folder],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), "PWD_OF_TEST": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder):
    process = start(folder)
    process.out, process.err = process.communicate(timeout=60)
    return process


def outcomes(folder):
    """Return the loss or the error of each checkpoint that has an outcome."""
    found = evaluation_outcomes(read_events(folder))
    return [found[name].get("error", found[name].get("metrics", {}).get("loss")) for name in NAMES if name in found]


def calls(folder):
    return [line.split()[0] for line in (folder / "calls.txt").read_text().splitlines()]


def processes(folder):
    return [line.split()[1] for line in (folder / "calls.txt").read_text().splitlines()]


def reason(folder):
    return json.loads((folder / "error.json").read_text())["reason"]


def test_one_process_evaluates_them_all_and_imports_once(tmp_path):
    done = run(folder_of(tmp_path, "0.3", "0.2", "nan"))
    assert done.returncode == 0, done.err
    assert outcomes(tmp_path) == [0.3, 0.2, "nan"]
    assert calls(tmp_path) == ["0.3", "0.2", "nan"]
    assert len(set(processes(tmp_path))) == 1
    assert (tmp_path / "imports.txt").read_text() == "x"
    assert 'train-000002: metrics: {"loss": 0.2' in done.out
    assert all(event["seconds"] >= 0 for event in read_events(tmp_path) if event["kind"] == "evaluation")


def test_each_draws_the_numbers_that_it_would_draw_alone(tmp_path):
    run(folder_of(tmp_path / "three", "0.3", "0.2", "0.1", seed=5))
    alone = write_job(
        tmp_path / "one", code=CODE, action="evaluate", inputs={"checkpoint": "inputs/checkpoint"}, seed=5
    )
    (alone / "inputs").mkdir()
    (alone / "inputs" / "checkpoint").write_text("0.1")
    assert run(alone).returncode == 0
    drawn = {event["metrics"]["draw"] for event in read_events(tmp_path / "three") if event["kind"] == "evaluation"}
    (event,) = (event for event in read_events(alone) if event["kind"] == "evaluation")
    assert drawn == {event["metrics"]["draw"]}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise", "ValueError: spoilt (tiny.py:7 in evaluate)"),
        ("segfault", "its process was killed by SIGSEGV"),
        ("exit", "its process ended with exit status 7"),
        ("words", "ValueError: could not convert string to float: 'words' (tiny.py:11 in evaluate)"),
    ],
)
def test_one_that_fails_is_reported_and_the_others_are_evaluated(tmp_path, what, said, place):
    texts = ["0.3", "0.2", "0.1"]
    texts[place] = what
    done = run(folder_of(tmp_path, *texts))
    assert done.returncode == 1
    assert outcomes(tmp_path) == [said if text == what else float(text) for text in texts]
    assert calls(tmp_path) == texts, "each was evaluated once"
    assert reason(tmp_path) == f"RuntimeError: 1 of 3 evaluations failed: train-00000{place + 1}: {said}"
    assert f"train-00000{place + 1}: FAILED: {said}" in done.err


def test_a_process_that_dies_of_each_ends_none_before_its_turn(tmp_path):
    done = run(folder_of(tmp_path, "segfault", "exit", "segfault"))
    assert done.returncode == 1
    assert calls(tmp_path) == ["segfault", "exit", "segfault"]
    assert len(set(processes(tmp_path))) == 3
    assert reason(tmp_path).startswith("RuntimeError: 3 of 3 evaluations failed: train-000001: its process was killed")


def test_code_that_does_not_load_fails_every_evaluation_with_the_reason(tmp_path):
    assert run(folder_of(tmp_path, "0.3", "0.2", code="import no_such_library\n")).returncode == 1
    assert outcomes(tmp_path) == ["ModuleNotFoundError: No module named 'no_such_library' (tiny.py:1 in <module>)"] * 2


def test_a_try_that_was_killed_is_followed_by_one_that_has_the_one_at_hand_last_and_alone(tmp_path):
    process = start(folder_of(tmp_path, "0.3", "wait", "0.1"))
    wait_for(lambda: (tmp_path / "calls.txt").exists() and calls(tmp_path)[-1] == "wait", what="the second evaluation")
    child = int(processes(tmp_path)[-1])
    # All of the job at once, as the platform does when memory runs out or the node goes.
    process.kill()
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    process.communicate()
    assert outcomes(tmp_path) == [0.3]
    (tmp_path / "inputs" / NAMES[1]).write_text("0.2")
    assert run(tmp_path).returncode == 0
    assert outcomes(tmp_path) == [0.3, 0.2, 0.1]
    assert calls(tmp_path) == ["0.3", "wait", "0.1", "0.2"]
    assert processes(tmp_path)[2] != processes(tmp_path)[3]


def test_one_that_two_tries_died_of_is_not_evaluated_again(tmp_path):
    folder_of(tmp_path, "0.3", "wait", "0.1")
    for _ in range(2):
        append_event(tmp_path, "evaluation-begun", input=NAMES[1])
    assert run(tmp_path).returncode == 1
    assert outcomes(tmp_path) == [0.3, "the job died 2 times while it evaluated this checkpoint", 0.1]
    assert calls(tmp_path) == ["0.3", "0.1"]


def test_a_try_after_all_were_evaluated_evaluates_the_failed_ones_again(tmp_path):
    run(folder_of(tmp_path, "0.3", "raise", "0.1"))
    (tmp_path / "inputs" / NAMES[1]).write_text("0.2")
    assert run(tmp_path).returncode == 0
    assert outcomes(tmp_path) == [0.3, 0.2, 0.1]
    assert calls(tmp_path) == ["0.3", "raise", "0.1", "0.2"]
    assert set(evaluations_cut_off(read_events(tmp_path)).values()) == {0}


def test_a_notice_to_leave_ends_the_job_after_the_evaluation_at_hand(tmp_path):
    code = CODE + "    \n" + "plain = evaluate\ndef evaluate(job, checkpoint):\n"
    code += "    open(os.environ['MODELWAY_NOTICE'], 'w').close()\n    return plain(job, checkpoint)\n"
    folder_of(tmp_path, "0.3", "0.2", code=code)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), "PWD_OF_TEST": str(tmp_path)}
    environment["MODELWAY_NOTICE"] = str(tmp_path / "notice")
    done = subprocess.run([sys.executable, "-m", "modelway.job", tmp_path], env=environment, capture_output=True)
    assert done.returncode == 128 + signal.SIGTERM
    assert outcomes(tmp_path) == [0.3]
    assert evaluations_cut_off(read_events(tmp_path)) == {NAMES[0]: 0}, "the second did not begin"


def test_a_command_evaluates_each_checkpoint(tmp_path):
    script = "printf '{\"loss\": %s}' $(cat $MODELWAY_CHECKPOINT) > $MODELWAY_OUTPUT/metrics.json"
    kills = f"grep -q die $MODELWAY_CHECKPOINT && kill -9 $$; {script}"
    done = run(folder_of(tmp_path, "0.5", "die", "0.25", command=("sh", "-c", kills)))
    assert done.returncode == 1
    killed = "its process was killed by SIGKILL, as it happens when memory runs out"
    assert outcomes(tmp_path) == [0.5, killed, 0.25]


def test_a_command_that_writes_nothing_does_not_get_the_metrics_of_the_one_before(tmp_path):
    script = "test $(cat $MODELWAY_CHECKPOINT) = none || echo '{\"loss\": 1}' > $MODELWAY_OUTPUT/metrics.json"
    run(folder_of(tmp_path, "0.5", "none", command=("sh", "-c", script)))
    assert outcomes(tmp_path)[0] == 1.0
    assert outcomes(tmp_path)[1].startswith("FileNotFoundError: the evaluate command wrote no output/metrics.json")
