"""Faults on purpose: kills, full disks, vanished folders, damaged files. ``python -m faults`` runs them (``tests/`` is on
the path), writes docs/reliability.json, and docs/reliability.md is generated from that.
"""
