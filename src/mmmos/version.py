"""The package's version, as rows, configs and the command line give it."""

from importlib.metadata import version

VERSION = version("mmmos")
