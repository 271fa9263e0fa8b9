# One image for `toolchain serve` (what it does by itself) and `toolchain score`. It holds no bundle: mount it.
#
#   docker build --tag toolchain .
#   docker run --rm --publish 127.0.0.1:8000:8000 --volume "$PWD/bundle:/bundle:ro" toolchain
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" toolchain score reviews.csv --bundle bundle
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY data ./data
COPY export ./export
COPY toolchain ./toolchain
RUN python -m venv /opt/toolchain \
    && /opt/toolchain/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu,parquet,serve]'

FROM python:3.11-slim
COPY --from=build /opt/toolchain /opt/toolchain
ENV PATH=/opt/toolchain/bin:$PATH PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
RUN useradd --create-home toolchain
USER toolchain
WORKDIR /work
EXPOSE 8000
# For `serve` on its own port; `score` has ended before it is asked for the first time.
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["toolchain"]
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--port", "8000"]
