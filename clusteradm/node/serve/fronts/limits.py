"""Limits of what clients may send, and how slowly."""

MIB = 1 << 20
# Of one request: a tensor of 640x640x3 float32 has 4.7 MiB, a batch of six of them fits. JSON is parsed while nothing
# else runs in the process (7 to 15 ms for a picture's numbers), and unfolds to many times its size.
MOST_BODY = 32 * MIB
MOST_JSON = 8 * MIB
# Of all requests that one front process reads or answers at the same time.
MOST_BODIES = 64 * MIB
# Within JSON: brackets, as each list or object takes some 60 bytes or more, and all values.
MOST_BRACKETS = 500_000
MOST_VALUES = 2_000_000
MOST_TENSORS = 64  # of one request
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 1 << 26
MOST_PICTURES = 64  # of one request
# Connections of one front process; who comes when there are so many takes the place of the one that waited longest.
MOST_CONNECTIONS = 1200
MOST_PIPELINED = 64  # requests that came on one connection before the first was answered
HEAD_SECONDS = 10.0  # for the head of a request to come
BODY_SECONDS = 30.0  # for its body
WRITE_SECONDS = 30.0  # for a client to take any part of an answer
KEEP_SECONDS = 75.0  # of a connection without a request
MOST_RPCS = 256  # of gRPC at the same time
MOST_TASKS = 32  # of ZeroMQ at the same time
MOST_ID = 128  # characters of a request's id
MOST_SECONDS = 3600.0  # of a deadline
