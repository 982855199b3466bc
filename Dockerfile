# The service with the bundled model. docs/SERVICE.md has the commands.
FROM python:3.11-slim AS build
# The default brings CUDA. For a slim image without it, name the index of CPU builds: "torch==2.13.0 --index-url ..."
ARG TORCH="torch==2.13.0"
COPY . /source
WORKDIR /source
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir $TORCH \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[serve]"

FROM python:3.11-slim
COPY --from=build /venv /venv
RUN useradd --system --uid 10001 --no-create-home mmmos
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["mmmos", "serve", "--host", "0.0.0.0"]
