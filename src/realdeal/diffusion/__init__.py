"""Noise schedules and samplers, thin over MONAI's schedulers."""
