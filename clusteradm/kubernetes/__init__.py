"""Kubernetes: the Edge TPUs of a machine as a resource of the kubelet's, and the manifests that use it."""
