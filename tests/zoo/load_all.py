"""``load_all.py FOLDER…``: load each frozen model as the server does, answer once, and print why one cannot be."""

import sys
from pathlib import Path

from modelway.server.core.refusal import CannotServe, Refusal
from modelway.server.core.runtime import load_model

for folder in map(Path, sys.argv[1:]):
    try:
        load_model(folder, threads=1).warm_up()
        print("served")
    except (CannotServe, Refusal) as error:
        print(f"{type(error).__name__}: {error}")
