"""From a head's predictions to detections: candidates, suppression, seconds."""
