# Router, external host, switches and workloads of the lab in containers (lab/announcer.clab.yml), for nothing else:
# `docker build -f images/clab.Dockerfile -t announcer-clab:0.1.0 .` (`make images`).
ARG CLAB_BASE=debian:bookworm-slim

FROM ${CLAB_BASE}
ARG FRR=8.4.4-*
RUN apt-get update \
    && apt-get install -y --no-install-recommends "frr=${FRR}" curl iproute2 iputils-arping iputils-ping python3 tcpdump \
    && rm -rf /var/lib/apt/lists/* \
    && sed -i -E 's/^(bgpd|bfdd)=no/\1=yes/' /etc/frr/daemons \
    && install -d -o frr -g frr /run/frr
CMD ["sleep", "infinity"]
