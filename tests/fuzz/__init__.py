"""Attacks on everything that is read: damaged files, hostile messages, kill -9 at any moment.

``python -m tests.fuzz`` runs them within a time budget and prints a table; ``test_fuzz.py`` runs a short
slice with the other tests.
"""
