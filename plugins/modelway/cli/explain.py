"""``modelway explain RUN``: what failed in a run, why, what to do about it, and what came next."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelway.cli._lineage import read_records
from modelway.cli.lint import printable
from modelway.lineage.records.readable import plural, time_text

if TYPE_CHECKING:
    from modelway.lineage.records.version import FailureRecord, RunAccount

_WIDTH = 9
#: the rule of an attempt that a mark in Airflow ended, as ``modelway.triggers`` writes it
_MARKED = "marked"


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``explain`` to the command line."""
    explain = subparsers.add_parser(
        "explain",
        help="say why a run failed, and what to do",
        description="Print of every failed attempt of a run what happened, what to do about it, the last lines that "
        "the job printed, and what came next. Exit status: 0 printed, 1 there is no such run.",
    )
    # "run" is the command's function.
    explain.add_argument("wanted", metavar="RUN", help="a run's id, or a model's name for its last run")
    explain.add_argument("--model", metavar="NAME", help="the model, where several have a run of this id")
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(run=explain_run)


def explain_run(args: argparse.Namespace) -> int:
    """Print the account of a run.

    :raises UnknownRun: there is no such run, or several models have one
    """
    account = read_records().account(args.wanted, model=args.model)
    if args.json:
        from modelway.lineage.records.values import plain

        print(json.dumps(plain(account), indent=2, ensure_ascii=False))
        return 0
    print(printable("\n".join(_text(account))))
    return 0


def _text(account: "RunAccount") -> Iterator[str]:
    yield f"{account.model}, run {account.run_id}: {_outcome(account)}"
    for failure in account.failures:
        yield ""
        yield f"{failure.key}, attempt {failure.attempt}, {time_text(failure.at, to='seconds')}"
        yield from _lines_of(failure, last=_last_of(account, failure.key))
    keys = " ".join(failure.key for failure in account.failures)
    if noted := [each for each in account.evaluations if each.checkpoint not in keys]:
        yield ""
        yield "Evaluations that something was noted about:"
        yield from (_line(each.checkpoint, each.note) for each in noted)


def _last_of(account: "RunAccount", key: str) -> int:
    return max(failure.attempt for failure in account.failures if failure.key == key)


def _outcome(account: "RunAccount") -> str:
    """Return the outcome of the run in one line, as far as the lineage knows it."""
    attempts = len(account.failures)
    failed = {each.key for each in account.failures if not each.tried_again and each.resolved_by is None}
    count = plural(attempts, "failed attempt") if attempts else "nothing failed"
    if account.version is not None:
        though = f", without {', '.join(sorted(failed))}" if failed else ""
        return f"version v{account.version}{though}; {count}"
    if failed:
        return f"failed in {', '.join(sorted(failed))}; {count}"
    return f"no version yet; {count}"


def _lines_of(failure: "FailureRecord", *, last: int) -> Iterator[str]:
    yield _line("ended" if failure.rule == _MARKED else "failed", _cause(failure))
    if failure.advice:
        yield _line("to do", failure.advice)
    if failure.job:
        yield _line("job", failure.job)
    for number, line in enumerate(failure.last_lines):
        yield _line("" if number else "log", f"| {_visible(line)}")
    yield _line("then", _then(failure, last=last))


def _cause(failure: "FailureRecord") -> str:
    kind = (failure.kind or "").replace("_", " ")
    return failure.cause if failure.cause.lower().startswith(kind) else f"{kind}: {failure.cause}"


def _then(failure: "FailureRecord", *, last: int) -> str:
    if failure.rule == _MARKED:
        later = failure.resolved_by if failure.resolved_by != failure.attempt else None
        return "its job was stopped" + (f"; cleared since, attempt {later} succeeded" if later else "")
    if not failure.tried_again:
        again = "the same would happen again" if failure.rule == "fail" else "it had no attempt left"
        cleared = f"; cleared since, attempt {failure.resolved_by} succeeded" if failure.resolved_by else ""
        return f"not tried again: {again}{cleared}"
    how = " with more memory" if failure.rule == "more-memory" else ""
    if failure.attempt < last:
        return f"tried again{how}"
    if failure.resolved_by:
        return f"tried again{how}: attempt {failure.resolved_by} succeeded"
    return f"tried again{how}; that attempt has not ended yet, or was stopped"


def _line(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{_visible(text)}".rstrip()


def _visible(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
