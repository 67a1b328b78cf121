"""What every section of a spec is made of, of whichever room it is: its base class, the kinds of values, refusals."""
