# The ExaBGP sidecar: `docker build -f images/exabgp.Dockerfile -t announcer-exabgp:0.1.0 .` (`make images`).
#
# It runs beside `announcer agent` as the same user, with no capability, and shares /run/announcer with it (exabgp/README.md).
ARG BASE=python:3.11-slim-bookworm
# Another one for the first stage, which fetches packages, and of which only those come into the image.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
# Where packages come from, if not from pip's default.
ARG PIP_INDEX_URL
WORKDIR /build
RUN python3 -m venv /opt/exabgp
COPY images/exabgp.txt ./
RUN /opt/exabgp/bin/pip install --no-cache-dir --require-hashes -r exabgp.txt && /opt/exabgp/bin/pip uninstall -y setuptools pip
COPY exabgp/run exabgp/bridge.py exabgp/exabgp.env /opt/exabgp/announcer/

FROM ${BASE}
COPY --from=build /opt/exabgp /opt/exabgp
ENV PATH=/opt/exabgp/bin:$PATH
USER 65532:65532
ENTRYPOINT ["/opt/exabgp/announcer/run"]
CMD ["/run/announcer"]
