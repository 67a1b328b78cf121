"""``python3 -m modelway.job.agent FOLDER --attempt N``: the first process of a job's container, and what it reports."""
