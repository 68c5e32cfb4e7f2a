"""Policies for machines without JAX: as a folder for NumPy alone, or as an ONNX model."""

from policygrad.exporting.writing import Format, export

__all__ = ["Format", "export"]
