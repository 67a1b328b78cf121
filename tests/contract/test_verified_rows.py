"""What a frozen model is verified on: whole rows of the examples, real rows, and rows in other batches.

All models are frozen in one process and verified in one, since torch takes seconds to load.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from modelway.artifacts.archive import write_archive
from modelway.job.freezing import session
from modelway.job.freezing.frozen_rows import OF_DEVICES
from modelway.job.freezing.rows import record_rows, recorded_files
from modelway.job.freezing.scores import find_origin, metrics_of
from safetensors.numpy import load_file, save_file

from tests.job_folders import write_job

# torch exports tens of modules in one process, beside other tests.
pytestmark = pytest.mark.timeout(600)

PLUGINS = Path(__file__).parents[2] / "plugins"
TOLERANCE = {"absolute": 1e-4, "relative": 1e-3}
HEAD = """
import torch
from torch import nn

class Function(nn.Module):
    def __init__(self, *names):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 2)

class Encoder(nn.Module):
    def __init__(self, nested=True):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.out = nn.Linear(16, 2)
    def forward(self, ids, padding):
        return self.out(self.encoder(self.words(ids), src_key_padding_mask=padding).mean(1))

def texts(count, full):
    g = torch.Generator().manual_seed(1)
    lengths = torch.full((count,), 6) if full else torch.randint(1, 7, (count,), generator=g)
    return {"ids": torch.randint(0, 50, (count, 6), generator=g), "padding": torch.arange(6)[None] >= lengths[:, None]}

def real(count=100):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(2))

def examples(count=3):
    return {"x": torch.randn(count, 3, generator=torch.Generator().manual_seed(3))}
"""
FORWARD = """
class Net(Function):
    def forward(self, x):
        {body}
def export(job, checkpoint):
    return Net(), {examples}{options}
"""


def net(body="return self.out(x)", *, options="{}", examples="examples()"):
    """Return the code of a model of three numbers in."""
    return HEAD + FORWARD.format(body=body, examples=examples, options=f", {options}")


def encoder(nested="", before="", options='{"rows": texts(90, full=False)}'):
    """Return the code of a text model whose examples have no padding."""
    return (
        f"{HEAD}{before}\ndef export(job, checkpoint):\n    return Encoder({nested}), texts(2, full=True), {options}\n"
    )


CODES = {
    "whole rows": HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__(); self.city = nn.Embedding(1000, 2); self.kind = nn.Embedding(3, 2)
    def forward(self, columns, price):
        return self.city(columns[:, 0]) + self.kind(columns[:, 1]) + torch.log(price)
def export(job, checkpoint):
    return Net(), {"columns": torch.tensor([[999, 2], [5, 0], [700, 1]]), "price": torch.tensor([[0.1], [20.0], [3e6]])}
""",
    "sizes": net(options='{"sizes": [3, 5]}'),
    "golden": net(options='{"golden": [{"x": torch.tensor([[4.0, 5.0, 6.0]])}, examples(4)]}'),
    "a row alone is refused": net("return torch.nn.functional.batch_norm(self.out(x), None, None, training=True)"),
    "mean of the batch": net("return self.out(x - x.mean(0))"),
    "sorted batch": net("return self.out(x).sort(0).values"),
    "one row": net(examples="examples(1)"),
    "nan": net("return torch.where(self.out(x) > 0, self.out(x), torch.nan)", options='{"rows": {"x": real()}}'),
    "rows": net(options='{"rows": {"x": real()}}'),
    "rows of a data set": net(options='{"rows": "holdout"}'),
    "rows of no data set": net(options='{"rows": "holdouts"}'),
    "rows of other names": net(options='{"rows": {"y": real()}}'),
    "rows of another shape": net(options='{"rows": {"x": real()[:, :2]}}'),
    "unknown golden": net(options='{"golden": [{"y": real()}]}'),
    "score": net(
        options='{"rows": {"x": real()}, "labels": torch.zeros(100), '
        '"score": lambda outputs, labels: {"mean": float((outputs["output"][:, 0] - labels).mean())}}'
    ),
    "score of nothing": net(options='{"rows": {"x": real()}, "score": lambda outputs, labels: None}'),
    "score that is NaN": net(
        options='{"rows": {"x": real()}, "labels": torch.zeros(100), "score": lambda outputs, labels: {"r": torch.nan}}'
    ),
    "rows of outputs without a batch": net(
        "return {'row': self.out(x), 'classes': torch.arange(2), 'total': x.sum()}", options='{"rows": {"x": real()}}'
    ),
    "rows of no output with a batch": net("return x.sum(0)", options='{"rows": {"x": real()}}'),
    "one golden row": net(options='{"golden": [{"x": torch.ones(1, 3)}]}'),
    "one size": net(options='{"sizes": [1]}'),
    "one real row": net(options='{"rows": {"x": real(1)}}'),
    "equal real rows": net(options='{"rows": {"x": real(1)[[0, 0]]}}'),
    "longer real rows": net(
        "return x.cumsum(1)", options='{"rows": {"x": torch.rand(9, 5)}, "dynamic": {"x": {1: "length"}}}'
    ),
    "recorded": net(),
    "recorded of other weights": net().replace("manual_seed(0)", "manual_seed(9)"),
    "recorded in half precision": net(),
    "recorded with gradients": encoder(options="{}"),
    "fast path": encoder(),
    "fast path in golden inputs": encoder(options='{"golden": [texts(9, full=False)]}'),
    "no nested tensors": encoder("nested=False"),
    # Last: it is for the whole process.
    "no fast path": encoder(before="torch.backends.mha.set_fastpath_enabled(False)"),
}
FREEZE_ALL = """
import sys
from pathlib import Path
from modelway.job.__main__ import main
for folder in sys.argv[1:]:
    sys.modules.pop("tiny", None)
    sys.path[:] = [place for place in sys.path if not place.endswith("/code")]
    print("JOB", Path(folder).name, flush=True)
    main(Path(folder))
"""
#: what evaluate of "recorded" does, with or without gradients
EVALUATE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, numpy, tiny
with torch.inference_mode():
    logits = tiny.export(None, None)[0].eval()(tiny.real(97))
    with torch.autocast("cpu", torch.bfloat16):
        half = tiny.export(None, None)[0].eval()(tiny.real(97)).float()
rows = tiny.texts(60, full=False)
answers = tiny.Encoder().eval()(**rows).detach()
recorded = {"x": tiny.real(97), "logits": logits, "half": half}
numpy.savez(sys.argv[2], **recorded, ids=rows["ids"], padding=rows["padding"], answers=answers)
"""


def python(*words):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=580,
    )


def left(folder, what):
    """Return what a job left, or the reason why it failed."""
    error = folder / "error.json"
    return json.loads(error.read_text())["reason"] if error.exists() else what(folder)


def freeze_job(folder, code, **fields):
    return write_job(folder, code=code, action="freeze", stage="freeze", key="freeze", **fields)


def slug(kind):
    return kind.replace(" ", "-")


def recorded(folder, inputs, scores, labels):
    """Write what ``job.predictions`` of an evaluation leaves; return the inputs of the job that freezes."""
    known = metrics_of(scores, numpy.array(labels))
    record_rows(folder / "evaluated", of="checkpoint", inputs=inputs, labels=labels, scores=scores, metrics=known)
    return {
        name: str(path.relative_to(folder)) for name, path in recorded_files(folder / "evaluated", "checkpoint").items()
    }


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The folder of the frozen model of each kind, or the reason why it was refused; the log under None."""
    place = tmp_path_factory.mktemp("freeze")
    evaluated = write_job(place / "evaluate", code=CODES["recorded"])
    done = python("-c", EVALUATE, evaluated / "code", place / "evaluated.npz")
    assert done.returncode == 0, done.stderr
    made = numpy.load(place / "evaluated.npz")
    numpy.savez(place / "holdout.npz", x=made["x"])
    datasets = {"holdout": {"uri": str(place / "holdout.npz"), "digest": None, "version": None}}
    folders = {kind: freeze_job(place / slug(kind), code, datasets=datasets) for kind, code in CODES.items()}
    for kind in ("recorded", "recorded of other weights"):
        inputs = recorded(folders[kind], {"x": made["x"]}, made["logits"], [0, 1] * 48 + [1])
        freeze_job(folders[kind], CODES[kind], inputs=inputs)
    kind = "recorded in half precision"
    inputs = recorded(folders[kind], {"x": made["x"]}, made["half"], [0, 1] * 48 + [1])
    freeze_job(folders[kind], CODES[kind], inputs=inputs)
    kind = "recorded with gradients"
    inputs = {name: made[name] for name in ("ids", "padding")}
    freeze_job(folders[kind], CODES[kind], inputs=recorded(folders[kind], inputs, made["answers"], [0, 1] * 30))
    done = python("-c", FREEZE_ALL, *folders.values())
    found = {kind: left(folder, lambda at: at / "output" / "archive") for kind, folder in folders.items()}
    return found | {None: done.stdout}


def described(frozen):
    return json.loads((frozen / "outputs" / "model.yml").read_text())


def packed(frozen, to):
    shutil.copytree(frozen, to.with_name(f"{to.name}.tree"))
    write_archive(folder=to.with_name(f"{to.name}.tree"), documents={}, to=to)


def verify_all(place, folders, **params):
    """Verify frozen models in one process; return each one's report or the reason why it was refused."""
    jobs = {}
    for kind, folder in folders.items():
        given = {**TOLERANCE, **params.get(kind, {})}
        jobs[kind] = write_job(
            place / slug(kind), action="verify", key="verify", params=given, inputs={"archive": "archive"}
        )
        packed(folder, jobs[kind] / "archive")
    python("-c", FREEZE_ALL, *jobs.values())
    return {
        kind: left(folder, lambda at: json.loads((at / "output" / "verify.json").read_text()))
        for kind, folder in jobs.items()
    }


@pytest.fixture(scope="module")
def verified(frozen, tmp_path_factory):
    """The report on the frozen model of each kind that was frozen, or the reason why it is refused."""
    folders = {kind: found for kind, found in frozen.items() if kind and isinstance(found, Path)}
    place = tmp_path_factory.mktemp("verify")
    contradicted = place / "contradicted"
    shutil.copytree(folders["mean of the batch"], contradicted)
    document = {**described(contradicted), "batches": True, "batches_reason": "somebody wrote so"}
    (contradicted / "outputs" / "model.yml").write_text(json.dumps(document))
    other = place / "other labels"
    shutil.copytree(folders["recorded"], other)
    rows = load_file(other / "rows" / "inputs.safetensors")
    save_file({**rows, "labels": 1 - rows["labels"]}, other / "rows" / "inputs.safetensors")
    loss = metrics_of(*scores_and_labels(folders["recorded"]))
    evaluated = {"loss": loss["cross_entropy"], "accuracy": loss["accuracy"], "other": 3.0, "none": None}
    params = {"metric": "loss", "evaluated": evaluated}
    loss = metrics_of(*scores_and_labels(folders["recorded in half precision"]))
    half = {"metric": "loss", "evaluated": {"loss": loss["cross_entropy"], "accuracy": loss["accuracy"]}}
    return verify_all(
        place,
        {**folders, "contradicted": contradicted, "other labels": other},
        **{"recorded": params, "other labels": params, "recorded in half precision": half, "score": {"metric": "mean"}},
    )


def scores_and_labels(frozen):
    scores = load_file(frozen / "rows" / "answers.safetensors")["scores"]
    return scores, load_file(frozen / "rows" / "inputs.safetensors")["labels"]


def test_golden_inputs_are_whole_rows_of_the_examples(frozen, verified):
    inputs = load_file(frozen["whole rows"] / "golden" / "inputs.safetensors")
    rows = {(999, 2): 0.1, (5, 0): 20.0, (700, 1): 3e6}
    for size in (1, 2, 7, 32):
        columns, price = inputs[f"{size}/columns"], inputs[f"{size}/price"]
        assert len(columns) == len(price) == size
        for row, one in zip(columns.tolist(), price[:, 0], strict=True):
            assert numpy.float32(rows[tuple(row)]) == one
    assert verified["whole rows"]["sizes"] == [1, 2, 7, 32]
    assert verified["whole rows"]["rows"] == 0


def test_export_may_name_sizes_and_golden_inputs_of_its_own(frozen, verified):
    assert verified["sizes"]["sizes"] == [3, 5]
    inputs = load_file(frozen["golden"] / "golden" / "inputs.safetensors")
    assert sorted(inputs) == ["given-1/x", "given-2/x"]
    assert inputs["given-1/x"].tolist() == [[4.0, 5.0, 6.0]]
    assert (verified["golden"]["sizes"], verified["golden"]["calls"]) == ([], 2)
    assert frozen["unknown golden"].startswith(
        "ValueError: export: the golden inputs 1 name the input 'y', forward take"
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mean of the batch", "rows depend on one another: output 'output' of row 0 alone differs by"),
        ("sorted batch", "rows depend on one another: output 'output' of row 0 alone differs by"),
        ("a row alone is refused", "row 0 alone is refused: ValueError: Expected more than 1 value per channel"),
        ("one row", "rows cannot be compared: the examples hold no two different rows; give export some"),
    ],
)
def test_rows_that_depend_on_one_another_are_served_unjoined_and_not_refused(frozen, verified, kind, reason):
    assert described(frozen[kind])["batches"] is False
    assert described(frozen[kind])["batches_reason"].startswith(reason)
    assert verified[kind]["batches"] is False
    assert verified[kind]["batches_reason"].startswith(reason)


def test_a_size_that_the_checkpoint_refuses_is_not_tried(verified):
    assert verified["a row alone is refused"]["sizes"] == [2, 7, 32]


def test_rows_that_do_not_depend_on_one_another_are_joined(frozen, verified):
    said = "each of 3 rows has the same answers alone and at another place in another batch"
    assert described(frozen["whole rows"])["batches"] is True
    assert (verified["whole rows"]["batches"], verified["whole rows"]["batches_reason"]) == (True, said)


@pytest.mark.parametrize("kind", ["one golden row", "one size", "one real row", "equal real rows", "longer real rows"])
def test_different_rows_are_in_the_archive_wherever_requests_are_joined(verified, kind):
    assert verified[kind]["batches"] is True


def test_a_frozen_model_that_contradicts_its_archive_is_refused_with_both_facts(verified):
    assert verified["contradicted"].startswith(
        "VerificationError: the archive says that requests may be joined (somebody wrote so), and the frozen model "
        "contradicts it: rows depend on one another: output 'output' of row 0 alone differs by"
    )


def test_an_answer_that_is_nan_in_the_checkpoint_too_is_said_to_be_its_own(frozen, verified):
    log = re.search(r"JOB nan\n(.*?)JOB ", frozen[None], flags=re.DOTALL).group(1)
    assert "the checkpoint's own answer is NaN: output 'output' of golden batch" in log
    assert 0 < verified["nan"]["max_abs_difference"] < 1e-5 or verified["nan"]["rows"] == 100


def test_real_rows_of_export_are_compared(verified):
    report = verified["rows"]
    assert (report["rows"], report["rows_of"], report["rows_from"]) == (100, 100, "export")
    assert report["metric"] is None
    assert verified["rows of a data set"]["rows"] == 97
    assert verified["rows of a data set"]["rows_from"] == "data set 'holdout'"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            "rows of no data set",
            "ValueError: export: rows names no data set of the spec: 'holdouts'; known are holdout",
        ),
        ("rows of other names", "ValueError: the rows of export have the inputs y, forward takes x"),
        (
            "rows of another shape",
            "ValueError: the rows of export: 'x' is float32 of shape [100, 2], the example is flo",
        ),
        ("score of nothing", "ValueError: export: score must give metrics by name, such as {'loss': 0.1}, got None"),
        (
            "rows of no output with a batch",
            "ValueError: real rows cannot be compared, for no output has the batch first: 'output' [3]; give golden in",
        ),
        ("score that is NaN", "ValueError: export: score must give finite numbers, got nan as 'r'; leave out of the"),
    ],
)
def test_rows_that_are_none_are_refused(frozen, kind, reason):
    assert str(frozen[kind]).startswith(reason)


def test_outputs_without_a_batch_do_not_keep_the_others_from_being_compared(frozen, verified):
    assert verified["rows of outputs without a batch"]["rows"] == 100
    kind = "rows of outputs without a batch"
    assert list(load_file(frozen[kind] / "rows" / "answers.safetensors")) == ["outputs/row"]


def test_a_metric_of_export_is_computed_with_the_frozen_model(verified):
    metric = verified["score"]["metric"]
    assert metric["name"] == "mean"
    assert metric["served"] == pytest.approx(metric["evaluated"], abs=1e-5)


def test_the_selected_metric_is_computed_again_of_what_evaluate_recorded(verified):
    report = verified["recorded"]
    assert (report["rows"], report["rows_from"]) == (97, "evaluate")
    assert report["metric"]["name"] == "loss"
    assert report["metric"]["served"] == pytest.approx(report["metric"]["evaluated"], abs=1e-5)


def test_an_evaluation_in_half_precision_is_of_the_same_model(frozen, verified):
    logits, half = (scores_and_labels(frozen[kind])[0] for kind in ("recorded", "recorded in half precision"))
    assert find_origin({"output": logits}, half, **OF_DEVICES)[1].reason
    report = verified["recorded in half precision"]
    assert (report["rows"], report["metric"]["name"]) == (97, "loss")
    assert report["max_abs_difference"] < 1e-5


def test_a_metric_that_is_not_what_was_evaluated_is_refused(verified):
    assert re.match(r"VerificationError: the frozen model's \w+ on 97 real rows is ", verified["other labels"])


def test_a_checkpoint_that_answers_otherwise_than_it_was_evaluated_is_refused(frozen):
    assert frozen["recorded of other weights"].startswith(
        "ValueError: what evaluate recorded is not what the model of export answers: its scores and output 'output' ("
    )
    assert "of 97 rows" in frozen["recorded of other weights"]


def test_a_path_that_torch_takes_without_gradients_alone_is_found_on_real_rows(verified):
    reason = verified["fast path"]
    assert re.match(
        r"VerificationError: output 'output' on \d+ of 90 real rows \(from export, given in batches of 32\) is not "
        r"what the checkpoint answered: it differs by 0\.\d+ at most, on \d+ of 90 rows, most on row \d+ ",
        reason,
    )
    assert "enable_nested_tensor=False" in reason
    assert "set_fastpath_enabled(False)" in reason
    assert "the golden inputs 'given-1' is not what the checkpoint answered" in verified["fast path in golden inputs"]


@pytest.mark.parametrize("kind", ["no nested tensors", "no fast path"])
def test_what_the_refusal_says_makes_them_equal(verified, kind):
    assert verified[kind]["rows"] == 90
    assert verified[kind]["max_abs_difference"] < 1e-5


def test_an_evaluation_with_gradients_is_compared_as_it_was_done(verified):
    assert verified["recorded with gradients"]["rows"] == 60
    assert verified["recorded with gradients"]["max_abs_difference"] < 1e-5


def test_the_session_has_as_many_threads_as_it_may_use(frozen, monkeypatch):
    monkeypatch.setattr(session, "usable_cores", lambda: 3)
    options = session.ProgramModel(frozen["sizes"] / "model" / "model.onnx")._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
