"""``verify_all.py ARCHIVE.zip…``: verify archives, one after another in this process; a line of JSON for each.

Those of torch come first: what verifies a program of ONNX afterwards refuses to import torch.
"""

import json
import sys
from pathlib import Path

from modelway.job.freezing.verify import verify

from tests.zoo.serve import tolerance_of

#: no difference at all, to see what is said of weights that round coarsely
NONE = {"absolute": 0.0, "relative": 0.0}
DEFAULT = {"absolute": 1e-4, "relative": 1e-3}

for archive in map(Path, sys.argv[1:]):
    tree, report = archive.with_suffix(".tree"), archive.with_suffix(".json")
    tolerance = tolerance_of(tree)
    tries = [("error", DEFAULT)] if tolerance == DEFAULT else [("strict", NONE), ("error", tolerance)]
    found = {}
    for key, allowed in tries:
        try:
            verify(archive=archive, scratch=archive.with_suffix(".unpacked"), report=report, **allowed)
        except Exception as error:
            found[key] = f"{type(error).__name__}: {error}"
    report.write_text(json.dumps({**(json.loads(report.read_text()) if report.exists() else {}), **found}))
