"""Impersonation of service accounts (IAM Credentials) and secrets (Secret Manager) of the fake."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from tests.google.fake import Call, GoogleFake, Refused

_TOKEN_CREATOR = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."


class Accounts:
    """Who may act as whom, and who may read which secret."""

    def __init__(self, fake: GoogleFake) -> None:
        self.may_act: dict[str, set[str]] = {}
        """Account → who may impersonate it."""
        self.secrets: dict[str, str] = {}
        """``projects/p/secrets/s`` → its latest version."""
        fake.handle("iamcredentials.projects.serviceAccounts.generateAccessToken", self.access_token)
        fake.handle("iamcredentials.projects.serviceAccounts.generateIdToken", self.id_token)
        fake.handle("secretmanager.projects.secrets.versions.access", self.secret)

    def access_token(self, call: Call) -> Mapping[str, Any]:
        account = self._account(call)
        issued = call.fake.logins.issue(account)
        end = call.fake.clock.now() + issued["expires_in"]
        return {"accessToken": issued["access_token"], "expireTime": call.fake.clock.stamp(end)[:19] + "Z"}

    def id_token(self, call: Call) -> Mapping[str, Any]:
        return {"token": call.fake.logins.identity(self._account(call), call.body["audience"])}

    def secret(self, call: Call) -> Mapping[str, Any]:
        name, _, version = call.names["name"].partition("/versions/")
        if name not in self.secrets or version != "latest":
            raise Refused(404, f"Secret [{name}] not found or has no versions.")
        return {"name": call.names["name"], "payload": {"data": base64.b64encode(self.secrets[name].encode()).decode()}}

    def _account(self, call: Call) -> str:
        """Return the account that is impersonated, through each delegate in turn."""
        target = call.names["name"].rpartition("/")[2]
        chain = [one.rpartition("/")[2] for one in call.body.get("delegates", [])]
        by = call.account
        for account in [*chain, target]:
            # An account may mint identity tokens of its own.
            if by != account and by not in self.may_act.get(account, set()):
                raise Refused(403, _TOKEN_CREATOR)
            by = account
        return target


def key_text(key: Mapping[str, Any]) -> str:
    """Return a key as its file has it."""
    return json.dumps(key, indent=2)
