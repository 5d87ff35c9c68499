# On CPUs:  docker build --tag medpos .
# On CUDA:  docker build --tag medpos --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#
# The main command, on phantoms where files/data/jsrt is not there; results in files/runs:
#   mkdir -p files
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD/files:/home/medpos" medpos
# Any other command, with GPUs by --gpus all --shm-size 2g:
#   docker run --rm ... medpos medpos predict runs/jsrt_pe/first images --out predictions
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=dicom
RUN python3 -m venv /opt/medpos
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY medpos medpos
COPY data_prep data_prep
COPY bundles bundles
COPY notebooks notebooks
RUN /opt/medpos/bin/pip install --no-cache-dir --no-compile --extra-index-url "$TORCH_INDEX" ".[$EXTRAS]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/medpos /opt/medpos
COPY bundles /opt/bundles
RUN useradd --create-home --uid 1000 medpos
# A name and a home, for any --user: MONAI asks for the name, matplotlib for the home.
ENV PATH=/opt/medpos/bin:$PATH USER=medpos HOME=/tmp
USER 1000
WORKDIR /home/medpos
CMD ["python", "-m", "monai.bundle", "run", "--config_file", "/opt/bundles/jsrt_pe.json"]
