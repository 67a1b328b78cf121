"""A project of the fake: its APIs, permissions, buckets, accounts and regions, for ``modelway doctor google``."""

from collections.abc import Mapping
from typing import Any

from tests.google.fake import Call, GoogleFake, Refused


class Project:
    """What the project ``p1`` (number 1) has; tests take things away from it."""

    def __init__(self, fake: GoogleFake) -> None:
        from modelway.platforms.google.checks import APIS, ROLES

        self.apis = set(APIS)
        self.permissions = {permission for permissions in ROLES.values() for permission in permissions}
        self.buckets: dict[str, dict[str, Any]] = {
            "models": {"projectNumber": "1", "location": "US-CENTRAL1", "locationType": "region"}
        }
        self.bucket_permissions = {f"storage.objects.{verb}" for verb in ("create", "get", "list", "delete")}
        self.may_act_as = {"jobs@p1.iam.gserviceaccount.com"}
        self.regions = {"us-central1", "europe-west4"}
        self.accelerators = {"nvidia-l4": {"us-central1-a", "europe-west4-b"}}
        self.created: list[str] = []
        for method, handler in {
            "serviceusage.services.batchGet": self.services,
            "cloudresourcemanager.projects.get": self.project,
            "cloudresourcemanager.projects.testIamPermissions": self.test_project,
            "storage.buckets.get": self.bucket,
            "storage.buckets.testIamPermissions": self.test_bucket,
            "iam.projects.serviceAccounts.testIamPermissions": self.test_account,
            "aiplatform.projects.locations.get": self.location,
            "run.projects.locations.services.create": self.create_service,
            "compute.acceleratorTypes.aggregatedList": self.accelerator_types,
        }.items():
            fake.handle(method, handler)

    def services(self, call: Call) -> Mapping[str, Any]:
        names = call.query["names"].split(",")
        states = {True: "ENABLED", False: "DISABLED"}
        return {"services": [{"name": name, "state": states[name.rpartition("/")[2] in self.apis]} for name in names]}

    def project(self, call: Call) -> Mapping[str, Any]:
        return {"name": "projects/1", "projectId": call.names["name"].partition("/")[2], "state": "ACTIVE"}

    def test_project(self, call: Call) -> Mapping[str, Any]:
        return _granted(call.body["permissions"], self.permissions)

    def bucket(self, call: Call) -> Mapping[str, Any]:
        return {"name": call.names["bucket"], **self._bucket(call)}

    def test_bucket(self, call: Call) -> Mapping[str, Any]:
        self._bucket(call)
        return _granted(call.query["permissions"].split(","), self.bucket_permissions)

    def _bucket(self, call: Call) -> dict[str, Any]:
        if call.names["bucket"] not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets[call.names["bucket"]]

    def test_account(self, call: Call) -> Mapping[str, Any]:
        account = call.names["resource"].rpartition("/")[2]
        return _granted(
            call.body["permissions"], {"iam.serviceAccounts.actAs"} if account in self.may_act_as else set()
        )

    def location(self, call: Call) -> Mapping[str, Any]:
        region = call.names["name"].rpartition("/")[2]
        if region not in self.regions:
            raise Refused(404, f"The location {region} is not found.")
        return {"name": call.names["name"], "locationId": region}

    def create_service(self, call: Call) -> Mapping[str, Any]:
        if call.query.get("validateOnly") != "true":
            self.created.append(call.query["serviceId"])
        if call.names["parent"].rpartition("/")[2] not in self.regions:
            raise Refused(404, f"Cloud Run is not in {call.names['parent']}.")
        return {"name": f"{call.names['parent']}/operations/validated", "done": True}

    def accelerator_types(self, call: Call) -> Mapping[str, Any]:
        name = call.query["filter"].partition("=")[2]
        items = {f"zones/{zone}": {"acceleratorTypes": [{"name": name}]} for zone in self.accelerators.get(name, ())}
        return {"items": {"zones/us-east1-b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}, **items}}


def _granted(wanted: list[str], granted: set[str]) -> Mapping[str, Any]:
    found = [permission for permission in wanted if permission in granted]
    return {"permissions": found} if found else {}
