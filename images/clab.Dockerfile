# Router, external host, switches and workloads of the lab in containers (lab/announcer.clab.yml), for nothing else:
# `docker build -f images/clab.Dockerfile -t announcer-clab:0.1.0 .` (`make images`).
ARG CLAB_BASE=debian:bookworm-slim
# Another one for the first stage, which fetches packages, and of which only those come into the image.
ARG BUILD_BASE=${CLAB_BASE}

FROM ${BUILD_BASE} AS build
ARG FRR=8.4.4-*
RUN mkdir -p /packages/partial && apt-get update \
    && apt-get install -y --no-install-recommends --download-only -o Dir::Cache::Archives=/packages \
        "frr=${FRR}" curl iproute2 iputils-arping iputils-ping python3 tcpdump

FROM ${CLAB_BASE}
COPY --from=build /packages/*.deb /packages/
RUN apt-get install -y --no-install-recommends /packages/*.deb \
    && sed -i -E 's/^(bgpd|bfdd)=no/\1=yes/' /etc/frr/daemons \
    && install -d -o frr -g frr /run/frr
CMD ["sleep", "infinity"]
