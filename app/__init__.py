"""The service around the engine: HTTP, the store, settings. Importing it wakes nothing."""
