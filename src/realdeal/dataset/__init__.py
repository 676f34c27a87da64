"""Synthetic subjects as a BIDS derivative dataset."""
