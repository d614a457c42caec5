"""Clips to look at and to learn from: the embedded synthetic one, and the real files."""
