"""Counts every customer once across source systems: the package that all functions share."""
