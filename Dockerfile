# imputer on a GPU workstation; docs/cluster.md has more, and Apptainer, SLURM and Kubernetes:
#     docker build -t imputer .
#     docker run --rm --gpus all --network none --user "$(id -u):$(id -g)" -v "$PWD:/data" imputer synth t1.nii.gz --to t2
# PyTorch comes with CUDA, as the ordinary package index has it; without a GPU the same image uses the processor. A far
# smaller image for processors only, or one for an older driver, takes PyTorch from an index of its makers: name it, as
# their install page does, with --build-arg TORCH_INDEX_URL=...
FROM python:3.11.14-slim-bookworm AS base
WORKDIR /opt/imputer


# What is installed here is installed in three steps, from what seldom changes to what often does. Each puts aside what
# it adds, which becomes a layer of its own: after a change of the code only a small one is built, pushed and pulled.
FROM base AS torch
ARG TORCH_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
RUN python3 -m venv .venv && \
    .venv/bin/pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c constraints.txt torch==2.13.0


FROM torch AS dependencies
COPY pyproject.toml ./
RUN touch /opt/before && \
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        >/opt/dependencies.txt && \
    .venv/bin/pip install -c constraints.txt -r /opt/dependencies.txt && \
    mkdir /opt/dependencies && \
    find .venv -cnewer /opt/before ! -type d -exec cp --archive --parents --target-directory=/opt/dependencies {} +


# README's install command, and a check that the label of the image tells the truth about the version.
FROM dependencies AS code
ARG VERSION=0.1.0
ARG EXTRAS=""
COPY README.md LICENSE NOTICE weights_manifest.toml ./
COPY imputer ./imputer
RUN touch /opt/before && \
    python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ".${EXTRAS:+[$EXTRAS]}" && \
    test "$(.venv/bin/imputer --version)" = "imputer $VERSION" && \
    mkdir /opt/code && \
    find .venv -cnewer /opt/before ! -type d -exec cp --archive --parents --target-directory=/opt/code {} +


FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z

# Any user may be given with --user: the cache, which is also everybody's home, is open to all, as /tmp is. Its folders
# are there beforehand, or the first user would own them.
RUN groupadd --gid 1000 imputer && \
    useradd --uid 1000 --gid 1000 --no-log-init --home-dir /cache --no-create-home --shell /usr/sbin/nologin imputer && \
    install --directory --mode=1777 /cache /cache/models /cache/registry /cache/hub /data

COPY --from=torch /opt/imputer/.venv ./.venv
COPY --from=dependencies /opt/dependencies/.venv ./.venv
COPY --from=code /opt/code/.venv ./.venv

# The driver shall lend what computing needs. Which GPUs is not said here: `--gpus` does, or the scheduler of a cluster.
ENV PATH=/opt/imputer/.venv/bin:$PATH \
    HOME=/cache \
    IMPUTER_HOME=/cache \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

LABEL org.opencontainers.image.title="imputer" \
      org.opencontainers.image.description="A missing MRI contrast from the one you have. Synthetic images: not for diagnosis" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-4.0"

USER 1000:1000
WORKDIR /data
VOLUME /cache

# As process 1 of a container Python hears SIGTERM in `imputer batch` only, but SIGINT in every command.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10m --timeout=2m --start-period=1m --retries=2 CMD ["imputer", "doctor"]
ENTRYPOINT ["imputer"]
CMD ["--help"]
