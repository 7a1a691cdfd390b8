"""Customers counted once: the code that every function shares."""
