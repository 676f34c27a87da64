"""Patch-based refinement: the order of the patches, the masks, the engine."""
