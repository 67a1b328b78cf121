"""What the tasks of a run pass to one another through XCom, one frozen dataclass for each kind.

See docs/adr/0026-typed-messages-between-tasks.md.
"""
