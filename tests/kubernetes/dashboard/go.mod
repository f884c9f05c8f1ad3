// Grafana's schema for the test of deploy/components/dashboard, built by lab/binaries.py.
module announcer.io/tests/kubernetes/dashboard

go 1.23

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
