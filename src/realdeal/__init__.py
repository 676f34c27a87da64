"""RealDeal: synthesis, refinement and measurement of realistic 3D brain MRI."""

__version__ = "0.1.0"
