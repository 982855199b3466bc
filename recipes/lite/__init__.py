"""Builds and evaluates the bundled model `lite`."""
