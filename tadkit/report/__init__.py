"""Reports on stores: summaries and previews."""
