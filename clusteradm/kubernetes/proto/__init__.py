"""Messages of the kubelet's device plugin API, written after the published one (k8s.io/kubelet, v1beta1/api.proto).

    python -m grpc_tools.protoc -I. --python_out=. clusteradm/kubernetes/proto/deviceplugin.proto

by grpcio-tools 1.62.3, at the top of the repository, as in clusteradm/node/serve/fronts/proto.
"""
