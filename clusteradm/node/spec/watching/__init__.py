"""Watching of a folder for files that come. The admin's machine and the head do it alike, so that it is shared as data
is: no other code of node/ depends on it, and it needs the standard library alone."""
