"""The store in Leases of coordination.k8s.io/v1; for others.

`store.KubernetesStore`, `kubeconfig`.
"""
