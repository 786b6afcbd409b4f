"""Layers, one family a file: each is bound to a batch size, and then goes forward and back."""
