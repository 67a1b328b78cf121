"""The paths of the pages and of their API, by what they show."""
