"""Plays on hosts: plan, batch, send, and tell what came of it."""
