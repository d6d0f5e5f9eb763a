"""Observation: metrics, traces, access log."""
