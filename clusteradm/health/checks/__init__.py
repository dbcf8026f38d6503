"""Checks of a host: each module judges one section of the probe's document and yields findings.

A check has the name of its section (`clusteradm/node/probe/SECTION.py`), with these exceptions: section `system` is
read by the checks `disk`, `units` and `machine`; the document of the head's cluster probe by `mpi`. Findings of the
section `share` are called `nfs`, those of `links` are called `link`. `clock`, `drift` and `expect` compare the
documents of all hosts, or a document and the inventory.
"""
