"""Measuring a version: gates, the trial in staging, and the report that people decide on."""
