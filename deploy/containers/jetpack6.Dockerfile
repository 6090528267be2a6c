# edgeclip on JetPack 6 (Python 3.10, TensorRT 10.3), arm64. TensorRT is the base's own; plans are compiled on the device, once:
#   make deb DEB_ARCH=arm64 DEB_PYTHON=3.10 && docker build -f deploy/containers/jetpack6.Dockerfile -t edgeclip-jetpack6 .
#   docker run --rm --runtime nvidia --device /dev/video0 -v edgeclip:/var/lib/edgeclip edgeclip-jetpack6 run --camera 0
# The base must be of the device's JetPack: --build-arg BASE=...
ARG BASE=nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel
FROM ${BASE}
ARG PYTHON=3.10
# The builder's: arm64.
ARG TARGETARCH
COPY dist/edgeclip_*+py${PYTHON}_${TARGETARCH}.deb /tmp/edgeclip.deb
# The package's environment sees the base's tensorrt and gi.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        /tmp/edgeclip.deb python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    && rm -rf /tmp/edgeclip.deb /var/lib/apt/lists/*
USER edgeclip
ENV EDGECLIP_STATE=/var/lib/edgeclip EDGECLIP_CACHE=/var/cache/edgeclip
VOLUME ["/var/lib/edgeclip", "/var/cache/edgeclip"]
ENTRYPOINT ["/opt/edgeclip/bin/edgeclip"]
CMD ["doctor"]
