"""Differentiable rendering of hands."""
