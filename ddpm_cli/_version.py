"""Give the version of the package, which nothing else of it need be imported for."""

__version__ = "0.1.0"
