# announcer's own image: `docker build -f images/announcer.Dockerfile -t announcer:0.1.0 .` (`make images`).
#
# Any base does that has a python3 of 3.11 or later with venv in PATH. At run time nothing is written but to volumes, and no
# shell is needed. Capabilities are the pod's to give: `agent` runs as user 0 there (deploy/base), `allocator` as this one.
ARG BASE=python:3.11-slim-bookworm
# Another one for the first stage, which fetches packages, and of which only those come into the image.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
# Where packages come from, if not from pip's default.
ARG PIP_INDEX_URL
WORKDIR /build
RUN python3 -m venv /opt/announcer
COPY images/build.txt images/announcer.txt ./
RUN /opt/announcer/bin/pip install --no-cache-dir --no-compile --require-hashes -r build.txt -r announcer.txt
COPY pyproject.toml README.md LICENSE ./
COPY announcer announcer
# Compiled here, as nothing is written at run time; but for the models of `kubernetes`, 60 MB that are never loaded.
RUN /opt/announcer/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
    && /opt/announcer/bin/pip uninstall -y setuptools pip \
    && /opt/announcer/bin/python -m compileall -q -x 'kubernetes/.*(models|api)/[a-z]' /opt/announcer/lib

FROM ${BASE}
COPY --from=build /opt/announcer /opt/announcer
ENV PATH=/opt/announcer/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/opt/announcer/bin/announcer"]
CMD ["--help"]
