# Of the lab's pods: it waits, as the container that holds a pod's network, or serves HTTP in place of nginx.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
COPY lab/http_server.py /
ENTRYPOINT ["sleep", "infinity"]
