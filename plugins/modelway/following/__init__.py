"""What a worker and the triggerer share to follow a job."""
