"""What every section of a spec is made of, in any package: its base class, the kinds of values, refusals."""
