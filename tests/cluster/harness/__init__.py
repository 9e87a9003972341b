"""A real Kubernetes for the tests: a control plane in seconds, and a node on which pods run.

`program` runs one process; `api` talks to any API server; `control_plane` is etcd, kube-apiserver and kube-controller-manager;
`node` adds a kubelet and all it needs in a network namespace of its own; `images` makes container images from folders;
`proxy` stands between a client and the API server and breaks what a test tells it to.
"""
