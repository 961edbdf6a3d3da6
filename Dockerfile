# imputer in a container:
#     docker build -t imputer .
#     docker run --rm -v "$PWD:/data" imputer synth /data/t1.nii.gz --to t2          (add --gpus all where there is one)
# A processor is enough. PyTorch's CPU wheels, far smaller than its CUDA ones, lie on an index of their
# own on x86-64: name it with --build-arg TORCH_INDEX_URL=... (see PyTorch's install page).
FROM python:3.11-slim

ARG TORCH_INDEX_URL=""

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    IMPUTER_HOME=/cache

WORKDIR /src
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch==2.13.0
COPY pyproject.toml README.md LICENSE NOTICE weights_manifest.toml ./
COPY imputer ./imputer
RUN pip install -c constraints.txt . && rm -rf /src

RUN useradd --create-home --uid 1000 imputer && mkdir /cache /data && chown imputer /cache /data
USER imputer
WORKDIR /data
VOLUME /cache

ENTRYPOINT ["imputer"]
CMD ["--help"]
