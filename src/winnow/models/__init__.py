"""Models: open_clip's towers, built, trained and exported."""
