"""Measure images that no model of ours has drawn, and take such images as a reference."""
