"""References composed of a model's parts: windows of its map, a pooled map, a resized image."""
