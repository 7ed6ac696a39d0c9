"""Frames from cameras, videos, folders and bags; masks to bags, images, videos and viewers."""
