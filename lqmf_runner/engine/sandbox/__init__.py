"""Untrusted code: chat templates and constraints, each tried or run in a process with hard limits."""
