"""Layers, one family a file: each turns a batch into its output and the way back."""
