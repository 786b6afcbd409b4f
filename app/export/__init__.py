"""Trained models as ONNX graphs, for programs that run these; preprocessing is in the graph."""
