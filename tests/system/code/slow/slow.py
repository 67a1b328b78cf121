import subprocess
import time


def train(job):
    subprocess.Popen(["sleep", "599"])
    for second in range(job.params["seconds"] * 10):
        if second % 10 == 0:
            print(f"second {second // 10}", flush=True)
        time.sleep(0.1)
    with job.checkpoint(step=1) as path:
        path.write_text("done")
