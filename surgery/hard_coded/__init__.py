"""Shapes that a graph holds on to from its traced size, and what they mean at every size."""
