"""Writes the exports that its queue delivers."""

from dedup.api import queue_handler
from dedup.services import exports

handler = queue_handler.handler("export", exports.write)
