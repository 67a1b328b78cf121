"""A proxy as one writes it in Python: ``python python_proxy.py PORT WEIGHT=BACKEND_PORT ...``, uvicorn and httpx."""

import random
import sys
from typing import Any

import httpx
import uvicorn

PAIRS = [each.split("=") for each in sys.argv[2:]]
WEIGHTS = [int(weight) for weight, _ in PAIRS]
URLS = [f"http://127.0.0.1:{port}" for _, port in PAIRS]
CLIENT = httpx.AsyncClient(trust_env=False)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Forward one request to a backend that is drawn by the weights."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    (url,) = random.choices(URLS, WEIGHTS)
    answer = await CLIENT.request(scope["method"], url + scope["path"], content=body)
    headers = [(b"content-length", b"%d" % len(answer.content))]
    headers.append((b"x-model-version", answer.headers["x-model-version"].encode()))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})


if __name__ == "__main__":
    settings: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "access_log": False}
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", **settings)
