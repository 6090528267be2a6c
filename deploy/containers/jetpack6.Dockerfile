# edgeclip on JetPack 6 (Python 3.10, TensorRT 10.3), arm64. TensorRT is the base's own; plans are compiled on the device, once:
#   docker build -f deploy/containers/jetpack6.Dockerfile -t edgeclip-jetpack6 .
#   docker run --rm --runtime nvidia --device /dev/video0 -v edgeclip:/var/lib/edgeclip edgeclip-jetpack6 run --camera 0
# The base must be of the device's JetPack: --build-arg BASE=...
ARG BASE=nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --groups video --home-dir /var/lib/edgeclip --create-home edgeclip \
    && install -d -o edgeclip /var/cache/edgeclip
COPY . /tmp/edgeclip
# --system-site-packages: the base's tensorrt and gi are seen.
RUN python3 -m venv --system-site-packages /opt/edgeclip \
    && /opt/edgeclip/bin/pip install --no-cache-dir '/tmp/edgeclip[sign,onnx]' \
    && rm -rf /tmp/edgeclip
USER edgeclip
ENV EDGECLIP_STATE=/var/lib/edgeclip EDGECLIP_CACHE=/var/cache/edgeclip
VOLUME ["/var/lib/edgeclip", "/var/cache/edgeclip"]
ENTRYPOINT ["/opt/edgeclip/bin/edgeclip"]
CMD ["run", "--source", "demo"]
