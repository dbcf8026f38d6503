"""Messages of the gRPC protocols: *.proto, written after the published ones, and the modules that protoc makes of them.

    python -m grpc_tools.protoc -I. --python_out=. clusteradm/node/serve/fronts/proto/*.proto

by grpcio-tools 1.62.3, at the top of the repository: what it makes loads under Python 3.7 with protobuf 4.21, and under
newer ones up to protobuf 7. The packages have names of our own, so that a process may have these and tritonclient's or
TensorFlow's; the wire has no names of messages in it.
"""
