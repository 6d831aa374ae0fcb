"""Flow of videos, and the features and predictions of teacher and student, kept in stores."""
