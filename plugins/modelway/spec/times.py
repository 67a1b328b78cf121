"""When a model is trained: cron expressions, time zones and days, as Airflow accepts them."""

import re
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from modelway.fields.refusal import Refusal, shown
from modelway.names import nearest

PRESETS = ("@daily", "@hourly", "@monthly", "@weekly", "@yearly")
# Airflow's other presets name no interval.
_INSTEAD = {
    "@once": "Leave schedule out and start the run yourself",
    "@continuous": "Write the shortest interval that is useful, such as */10 * * * *",
    "@midnight": "Write @daily",
    "@annually": "Write @yearly",
    "@quarterly": "Write 0 0 1 */3 *",
    "@none": "Leave schedule out",
}
_FIELDS = "minute hour day month weekday"
_HINT = f'Write five fields ({_FIELDS}), such as "0 3 * * *", or one of {", ".join(PRESETS)}'


@cache
def check_cron(value: str) -> str:
    """Return the text if it is a cron expression that matches some day.

    :raises Refusal: it is not one
    """
    if value in PRESETS:
        return value
    if value.startswith("@"):
        do = _INSTEAD.get(value)
        raise Refusal(f"{shown(value)} cannot be used as a cron", known=PRESETS, given=None if do else value, do=do)
    fields = len(value.split())
    if fields != 5:
        raise Refusal(f"{shown(value)} is not a cron: it has {fields} of 5 fields", do=_HINT)
    # croniter's extensions of cron: H and R are random each time, so that intervals would move.
    if not re.fullmatch(r"[0-9A-Za-z*/,#\- ]+", value) or re.search(r"(?i)(^|[ ,])[hr]([(/ ,]|$)", value):
        raise Refusal(f"{shown(value)} is not a cron", do=_HINT)
    # Imported for the first cron: most specs have none, and Airflow's own timetables import it too.
    from croniter import CroniterBadDateError, CroniterError, croniter

    try:
        croniter(value, datetime(2026, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        raise Refusal(f"{shown(value)} is a time that never comes", do="Check day and month") from None
    except (CroniterError, ValueError, KeyError, IndexError) as error:
        reason = ": a number is out of range" if "out of range" in str(error) else ""
        raise Refusal(f"{shown(value)} is not a cron{reason}", do=_HINT) from None
    return value


@cache
def check_timezone(value: str) -> str:
    """Return the text if it names a time zone known on every machine.

    :raises Refusal: it names none
    """
    from zoneinfo import ZoneInfo, available_timezones

    try:
        # A machine's local zone differs elsewhere.
        if value not in ("localtime", "Factory") and not value.startswith(("posix/", "right/")):
            ZoneInfo(value)
            return value
    except (ValueError, OSError, KeyError):
        pass
    by_word = {name.lower(): name for name in sorted(available_timezones())}
    near = nearest(value, by_word)
    suggestion = by_word[near] if near else None
    raise Refusal(f"{shown(value)} is not a time zone", suggestion=suggestion, do="Write such as Europe/Berlin or UTC")


def _day(value: str) -> str:
    try:
        # fromisoformat alone would accept 20260131 and 2026-W05-6 too.
        # Near Python's last year Airflow fails to compute the next run, and with it every DAG of the file.
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII) and 1970 <= date.fromisoformat(value).year < 2200:
            return value
    except ValueError:
        pass
    raise Refusal(f"{shown(value)} is not a day", do="Write year-month-day from 1970 to 2199, such as 2026-01-31")


Cron = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(check_cron),
    WithJsonSchema(
        {"type": "string", "pattern": rf"^({'|'.join(PRESETS)}| *\S+( +\S+){{4}} *)$", "examples": ["0 3 * * *"]}
    ),
]
Timezone = Annotated[
    str, AfterValidator(check_timezone), WithJsonSchema({"type": "string", "examples": ["UTC", "Europe/Berlin"]})
]
Day = Annotated[
    str,
    AfterValidator(_day),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "examples": ["2026-01-31"]}),
]
