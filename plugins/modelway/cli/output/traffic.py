"""Requests to an endpoint while its weights change, counted by who answered."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modelway.endpoints.base import Endpoint
from modelway.runs.traffic import weights_of

#: between two requests
PAUSE_SECONDS = 0.01
#: between two looks for the new version, whose endpoint appears late in a run: each asks the servers
WAIT_SECONDS = 1.0


class Traffic:
    """Sends requests to a model's endpoint in a thread and counts the answers by version and by weights."""

    def __init__(self, *, endpoint: Endpoint, model: str, requests: Sequence[Mapping[str, Any]], new: int) -> None:
        """Send ``requests`` in random order; ``new`` is the version whose weight names the step."""
        self.endpoint = endpoint
        self.model = model
        self.bodies = [json.dumps(request) for request in requests]
        self.new = new
        self.split: dict[int, Counter[int]] = {}
        self.failures: Counter[str] = Counter()
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Traffic":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def counted(self) -> dict[int, dict[int, int]]:
        """Return the answers by the new version's percentage, then by version."""
        return {weight: dict(counts) for weight, counts in self.split.items()}

    def problem(self) -> str | None:
        """Return why the counts are not what they should be: requests that failed, or the thread itself."""
        if self.error:
            return f"the requests during the rollout ended early: {type(self.error).__name__}: {self.error}"
        if self.failures:
            return f"{sum(self.failures.values())} requests failed during the rollout: {dict(self.failures)}"
        return None

    def _run(self) -> None:
        try:
            self._send()
        except Exception as error:
            self.error = error

    def _weights(self) -> tuple[str, Mapping[int, int]] | None:
        status = self.endpoint.status(self.model)
        # The state of a first version exists before its gateway listens.
        if status is None or not status.ready:
            return None
        return status.url, weights_of(status)

    def _send(self) -> None:
        import httpx

        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                before = self._weights()
                if before is None or self.new not in before[1]:
                    self._stop.wait(WAIT_SECONDS)
                    continue
                answers = self._batch(client, before[0])
                # A batch during which the weights changed belongs to no step.
                if self._weights() == before and (weight := before[1][self.new]) > 0:
                    self.split.setdefault(weight, Counter()).update(answers)

    def _batch(self, client: Any, url: str) -> Counter[int]:
        import httpx

        answers: Counter[int] = Counter()
        for _ in range(20):
            if self._stop.is_set():
                break
            try:
                answer = client.post(f"{url}/v2/models/{self.model}/infer", content=random.choice(self.bodies))
            except httpx.HTTPError as error:
                self.failures[type(error).__name__] += 1
                continue
            if answer.status_code == 200:
                answers[int(answer.headers["x-model-version"])] += 1
            else:
                self.failures[str(answer.status_code)] += 1
            time.sleep(PAUSE_SECONDS)
        return answers
