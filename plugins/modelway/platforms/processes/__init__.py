"""Processes on this machine that outlive their starter."""
