"""A cluster in memory: it keeps what it is sent, and nothing there runs."""

import json


class Cluster:
    """A cluster in memory whose controllers do not run: it keeps what it is sent."""

    client = None

    def __init__(self):
        self.objects = {}

    def create(self, manifest):
        key = manifest["kind"], manifest["metadata"]["name"]
        if key in self.objects:
            return None
        self.objects[key] = json.loads(json.dumps(manifest))
        self.objects[key]["metadata"]["uid"] = f"uid of {key}"
        return self.objects[key]

    def find(self, manifest):
        return self.objects[manifest["kind"], manifest["metadata"]["name"]]

    def set_owner(self, manifest, *, owner):
        self.find(manifest)["metadata"]["ownerReferences"] = [owner]

    def customs(self, namespace, selector, *, group, version, kind):
        wanted = dict(word.split("=") for word in selector.split(","))
        every = (each for (found, _), each in self.objects.items() if found == kind)
        return [each for each in every if wanted.items() <= each["metadata"]["labels"].items()]

    def jobs(self, namespace, selector):
        return self.customs(namespace, selector, group="batch", version="v1", kind="Job")

    def pod_log(self, namespace, name, *, lines):
        return ""

    def pods(self, namespace, selector):
        return []

    def events(self, namespace):
        return []

    def delete(self, namespace, selector, *, custom, grace_seconds):
        kind = custom[2] if custom else "Job"
        found = self.customs(namespace, selector, group="", version="", kind=kind)
        for key in [key for key, one in self.objects.items() if one in found]:
            gone = self.objects.pop(key)["metadata"]["uid"]
            owned = [key for key, each in self.objects.items() if owners(each) == [gone]]
            for each in owned:
                del self.objects[each]
        return []

    def delete_pods(self, namespace, selector, grace_seconds):
        return []


def owners(one):
    return [owner["uid"] for owner in one["metadata"].get("ownerReferences", ())]
