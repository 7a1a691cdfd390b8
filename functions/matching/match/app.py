"""Executes the matching runs that its queue delivers."""

from dedup.api import queue_handler

from jobs.matching.runs import run

handler = queue_handler.handler("run", run)
