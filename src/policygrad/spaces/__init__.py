"""Gymnasium's spaces: saved, encoded for networks, and crossed by actions."""
