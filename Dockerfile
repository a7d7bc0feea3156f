# Two images of hf_trainpipe for CPUs: `train` runs a recipe, `serve` serves a package. scripts/container builds and
# tests both without a container engine; with one:
#
#   docker build --target train -t hf-trainpipe:train .
#   docker run --read-only --tmpfs /tmp -v $PWD/work:/work hf-trainpipe:train \
#       train /opt/recipes/quickstart.py --run-dir /work/quickstart
#   docker build --target serve -t hf-trainpipe:serve .
#   docker run --read-only --tmpfs /tmp -v $PWD/work/quickstart/package:/package:ro -e HF_TRAINPIPE_TOKEN \
#       -p 8000:8000 hf-trainpipe:serve
#
# The user is 10001 and needs write access to the volume at /work. Nothing is written elsewhere but in /tmp.
# Pass secrets at run time, by -e. A pip.conf (it may hold a secret) is passed as a build secret, which is in no layer:
# --secret id=pip,src=pip.conf
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# The index of torch for CPUs; empty: the default index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY constraints.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --quiet --no-compile ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch \
    && /opt/venv/bin/python -m pip install --quiet --no-compile -c constraints.txt "setuptools<82" wheel
COPY pyproject.toml README.md LICENSE ./
COPY hf_trainpipe hf_trainpipe

FROM build AS build-train
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    /opt/venv/bin/python -m pip install --quiet --no-compile --no-build-isolation -c constraints.txt ".[quickstart]" \
    && /opt/venv/bin/python -m pip check \
    && /opt/venv/bin/python -m pip uninstall --quiet --yes wheel pip

FROM build AS build-serve
# Only what a server needs. For a package that uses spaCy: --build-arg ADD="spacy==3.8.18 <its pipeline>".
ARG ADD=""
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    /opt/venv/bin/python -m pip install --quiet --no-compile -c constraints.txt \
        transformers safetensors numpy huggingface_hub onnxruntime ${ADD} \
        $(python3 -c 'import tomllib; e = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*(d.split(";")[0] for d in e.get("serve", [])))') \
    && /opt/venv/bin/python -m pip install --quiet --no-compile --no-build-isolation --no-deps . \
    && /opt/venv/bin/python -m pip uninstall --quiet --yes setuptools wheel pip

FROM ${BASE} AS run
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trainpipe \
    && mkdir /work && chown 10001:10001 /work
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp HF_HOME=/tmp/hf HF_TRAINPIPE_CACHE=/tmp/hf_trainpipe \
    HF_HUB_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work

FROM run AS train
COPY --from=build-train /opt/venv /opt/venv
COPY recipes /opt/recipes
ENTRYPOINT ["hf-trainpipe"]
CMD ["train", "/opt/recipes/quickstart.py", "--run-dir", "/work/quickstart"]

FROM run AS serve
COPY --from=build-serve /opt/venv /opt/venv
ENV HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["hf-trainpipe"]
CMD ["serve", "/package", "--host", "0.0.0.0", "--port", "8000"]
