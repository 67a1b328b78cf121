"""What all backends do with a job's folder: generations, logs, object stores."""
