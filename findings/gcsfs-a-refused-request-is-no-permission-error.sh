#!/bin/sh
# gcsfs 2026.7.0 and 2026.10.1: a request that Cloud Storage refuses (403, such as a missing role on the bucket) raises a
# plain OSError whose text begins with "Forbidden:". The same refusal by S3 through s3fs 2026.7.0 is a PermissionError, as
# of a local file. So code that works on fsspec and catches PermissionError takes a missing role for a store that does not
# answer, and tries again.
# Matters to whoever distinguishes "not allowed" from "not there now" on gs://.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
cat >"$work/check.py" <<'PY'
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import fsspec

SAID = {
    "gcs": json.dumps({"error": {"code": 403, "message": "me does not have storage.objects.get access to the object."}}),
    "s3": "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
}


class Refuses(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = SAID[kind].encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
options = {"gcs": {"endpoint_url": url, "token": "anon"}, "s3": {"endpoint_url": url, "key": "k", "secret": "s"}}
found = {}
for kind, more in options.items():
    if kind not in sys.argv[1:]:
        continue
    try:
        fsspec.filesystem(kind, skip_instance_cache=True, **more).cat_file("bucket/file")
    except Exception as error:
        found[kind] = isinstance(error, PermissionError)
        package = {"gcs": "gcsfs", "s3": "s3fs"}[kind]
        print(f"{package} {version(package)}: {type(error).__name__}: {' '.join(str(error).split())[:120]}", flush=True)
# gcsfs leaves threads behind that wait for the server.
os._exit(0 if found == {kind: kind == "s3" for kind in sys.argv[1:]} else 1)
PY
python3 -m venv "$work/one"
"$work/one/bin/pip" install --quiet gcsfs==2026.7.0 s3fs==2026.7.0
python3 -m venv "$work/two"
"$work/two/bin/pip" install --quiet gcsfs==2026.10.1
if "$work/one/bin/python" "$work/check.py" gcs s3 && "$work/two/bin/python" "$work/check.py" gcs; then
  echo "as described"
else
  echo "this has changed"
  exit 1
fi
