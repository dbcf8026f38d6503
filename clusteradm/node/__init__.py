"""The only code of clusteradm that runs on a board: Python 3.7, standard library only (but for the inference ranks)."""

# The version of the conversation (see session.py); the admin side refuses another.
PROTOCOL = 1
