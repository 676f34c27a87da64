"""Cohorts, volumes and everything between a scan and a training array."""
