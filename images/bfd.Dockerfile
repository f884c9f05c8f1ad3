# FRR's bfdd alone, for BFD: `docker build -f images/bfd.Dockerfile -t announcer-bfd:0.1.0 .` (`make images`).
#
# announcer speaks to bfdd's command line (announcer/bfd/messages.py), so the version is the one that it was written for.
ARG BFD_BASE=debian:bookworm-slim
# Another one for the first stage, which fetches packages, and of which only those come into the image.
ARG BUILD_BASE=${BFD_BASE}

FROM ${BUILD_BASE} AS build
ARG FRR=8.4.4-*
RUN apt-get update && apt-get install -y --no-install-recommends "frr=${FRR}"
# bfdd wants its user to be in the group of its package, and some folders to be there.
RUN usermod -aG frrvty root && mkdir -p /image/run/frr /image/var/tmp/frr /image/usr/share/yang \
    && cp --parents -t /image /etc/passwd /etc/group /usr/lib/frr/bfdd \
    && ldd /usr/lib/frr/bfdd | sed -n 's|.* => \(/usr\)*\(/lib/[^ ]*\) .*|/usr\2|p' | xargs cp --parents -L -t /image

FROM ${BFD_BASE}
COPY --from=build /image /
ENTRYPOINT ["/usr/lib/frr/bfdd"]
