"""Faults on purpose: kills, full disks, vanished folders, damaged files.

``python -m faults`` with ``tests/`` on the path injects them and writes docs/reliability.json, from which
docs/reliability.md is generated.
"""
