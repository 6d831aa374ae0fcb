"""From videos to detections."""
