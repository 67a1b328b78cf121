"""Following a job, by a worker and by the triggerer alike."""
