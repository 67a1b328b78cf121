"""``python -m modelway.server``: load one model, serve it, drain on SIGTERM.

Exit status: 0 after a drain, 1 when the drain's limit left requests unanswered, 2 when the model or a setting cannot be
used, 3 when the server cannot listen on the address.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it does not handle, and all else takes a second to
    # load: one that is stopped meanwhile would have to be killed when its grace time is over.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    from modelway.server.serving import main

    status = main(sys.argv[1:], os.environ)
    sys.stderr.flush()
    # not sys.exit: that would wait for a call of the model that the drain has abandoned
    os._exit(status)
