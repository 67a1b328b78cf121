"""``modelway doctor``: check that a platform has what modelway needs."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelway.cli.output.tables import print_json, print_table, table
from modelway.errors import ModelwayError

if TYPE_CHECKING:
    from modelway.platforms.google.connection import GoogleConnection


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``doctor``."""
    doctor = subparsers.add_parser(
        "doctor",
        help="check that a platform has what modelway needs",
        description="Check that a platform has what modelway needs, by calls that change nothing.",
    )
    platforms = doctor.add_subparsers(required=True, metavar="PLATFORM")
    google = platforms.add_parser(
        "google",
        help="a project of Google Cloud: APIs, permissions, bucket, region, accelerator",
        description="Check a project of Google Cloud by calls that change nothing: its APIs, the permissions of the "
        "connection (AIRFLOW_CONN_MODELWAY_GOOGLE, else the credentials of this machine), a bucket, a service account, "
        "a region and a kind of GPU. The status is 1 where something is missing or could not be found out.",
    )
    google.add_argument("--project", help="default: that of the connection or of its credentials")
    google.add_argument("--region", help="such as us-central1: whether Vertex AI and Cloud Run take work there")
    google.add_argument("--bucket", help="such as gs://my-bucket; default: that of MODELWAY_ARTIFACT_ROOT")
    google.add_argument("--service-account", metavar="EMAIL", help="the account that jobs and endpoints run as")
    google.add_argument(
        "--accelerator", metavar="NAME", help="such as nvidia-l4: whether the region has machines of it"
    )
    google.add_argument("--json", action="store_true", help="print JSON")
    google.set_defaults(run=check_google)


def check_google(args: argparse.Namespace) -> int:
    """Print what a project has and what it lacks.

    :raises ModelwayError: the connection cannot be used, or no project is named
    """
    from modelway.hooks.settings import load_settings
    from modelway.platforms.google.checks import Level, Subject, check_project
    from modelway.platforms.google.rest import GoogleApi

    root = load_settings().artifact_root
    with GoogleApi(_connection()) as api:
        project = args.project or api.credentials.project()
        if not project:
            raise ModelwayError("neither the connection nor its credentials name a project", do="Add --project <id>")
        subject = Subject(
            project=project,
            region=args.region or "",
            bucket=args.bucket or (root if root.startswith("gs://") else ""),
            service_account=args.service_account or "",
            accelerator=args.accelerator or "",
        )
        found = list(check_project(api, subject))
    to_do = [one for one in found if one.level is not Level.OK]
    if args.json:
        print_json([asdict(one) for one in found])
    else:
        listed = table("CHECK", "RESULT", "WHAT")
        for one in found:
            listed.add_row(one.check, one.level.value, one.what)
        print_table(listed)
        for one in to_do:
            print(f"{one.check}: {one.do.rstrip('.')}.")
    return 1 if any(one.level in (Level.MISSING, Level.UNKNOWN) for one in found) else 0


def _connection() -> "GoogleConnection":
    from modelway.hooks.fields import fields_from_environment
    from modelway.platforms.google.connection import GOOGLE_CONN_ID, GoogleConnection, connection_of_extra

    fields = fields_from_environment(GOOGLE_CONN_ID)
    return connection_of_extra(fields.extra, conn_id=GOOGLE_CONN_ID) if fields else GoogleConnection()
