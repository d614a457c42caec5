"""Experiments whose records the chapters read: one file each, re-runnable from its command line.

An experiment takes a scale and seeds and returns a record, plain numbers with what was run on
what. A chapter runs it small and live; its claims come from the record under ``data/runs``.
"""
