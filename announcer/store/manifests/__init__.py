"""A folder of YAML manifests as a store: docs/manifests.md has its rules."""

from announcer.store.manifests.store import ManifestStore as ManifestStore
