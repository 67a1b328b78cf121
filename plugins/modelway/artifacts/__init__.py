"""Content-addressed files, the code package, the model archive, image layouts."""
