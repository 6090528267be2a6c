# edgeclip on JetPack 7 (Python 3.12, TensorRT 10.13), arm64. TensorRT is the base's own; plans are compiled on the device, once:
#   docker build -f deploy/containers/jetpack7.Dockerfile -t edgeclip-jetpack7 .
#   docker run --rm --runtime nvidia --device /dev/video0 -v edgeclip:/var/lib/edgeclip edgeclip-jetpack7 run --camera 0
# The base must be of the device's JetPack: --build-arg BASE=...
ARG BASE=nvcr.io/nvidia/tensorrt:25.08-py3
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
