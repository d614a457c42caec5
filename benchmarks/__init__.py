"""Measurements, never tests: ``make bench`` runs them and writes data/benchmarks/*.json."""
