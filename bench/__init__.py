"""Measurements that others can repeat: python -m bench NAME."""
