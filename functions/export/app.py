"""Writes the exports that its queue names."""

from dedup import exports, worker

handler = worker.handler("export", exports.write)
