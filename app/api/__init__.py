"""The HTTP API: one file a resource, thin views, and the gate before them."""
