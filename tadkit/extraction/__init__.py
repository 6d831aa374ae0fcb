"""Flow of videos, and what teacher and student make of them, kept in stores."""
