# edgeclip on plain Debian 12, amd64 or arm64: the same package that devices get. Build from the repository's root:
#   make deb && docker build -f deploy/containers/debian.Dockerfile -t edgeclip .
#   docker run --rm --device /dev/video0 -v edgeclip:/var/lib/edgeclip edgeclip run --camera 0 --label "a person"
ARG BASE=debian:12-slim
FROM ${BASE}
ARG PYTHON=3.11
# The builder's: amd64 or arm64.
ARG TARGETARCH
COPY dist/edgeclip_*+py${PYTHON}_${TARGETARCH}.deb /tmp/edgeclip.deb
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /tmp/edgeclip.deb \
    && rm -rf /tmp/edgeclip.deb /var/lib/apt/lists/*
USER edgeclip
ENV EDGECLIP_STATE=/var/lib/edgeclip EDGECLIP_CACHE=/var/cache/edgeclip
VOLUME ["/var/lib/edgeclip", "/var/cache/edgeclip"]
ENTRYPOINT ["/opt/edgeclip/bin/edgeclip"]
CMD ["doctor"]
