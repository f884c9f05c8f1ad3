"""announcer: addresses for Kubernetes LoadBalancer Services on bare metal."""
