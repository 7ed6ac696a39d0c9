"""Frames from cameras, videos, folders and bags; masks to bags, pictures, videos and viewers."""
