"""Training windows, made-up video and composed streams."""
