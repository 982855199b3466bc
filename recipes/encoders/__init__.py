"""Converts the published encoders to the files in the wheel."""
