# docker build -t xpnet .                                          on the CPU
# docker build -t xpnet:cuda --target cuda .                       on NVIDIA GPUs, whose driver the host has
# docker run --rm -v "$PWD:/work" xpnet train --data digits        the run is in ./runs; with GPUs: --gpus all, xpnet:cuda
FROM python:3.13-slim AS base
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY xpnet xpnet
RUN useradd --create-home --uid 1000 user && mkdir /work && chown user /work
ENTRYPOINT ["xpnet"]
CMD ["--help"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[plot,tables,tune,mpi,cuda13]'
USER 1000
WORKDIR /work

# The last one is built by default. Its versions are bounded in pyproject.toml.
FROM base AS cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[plot,tables,tune,mpi]'
USER 1000
WORKDIR /work
