"""Presenters: convert objects of the store to response models, one module per domain."""
