"""Decoding: from a head's predictions to detections in seconds, suppression included."""
