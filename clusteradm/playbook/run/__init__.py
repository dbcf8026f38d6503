"""Plays on hosts: tasks are planned, batched, sent to the nodes, and their results turned into events and a recap."""
