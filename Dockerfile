# The worker, the sink and every other command of Marlin: docker run IMAGE worker
FROM python:3.12-slim AS build

WORKDIR /build
COPY requirements/uv.lock requirements/pipeline.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.lock
RUN uv venv /opt/marlin \
    && uv pip install --python /opt/marlin/bin/python --no-cache --compile-bytecode \
        --require-hashes -r requirements/pipeline.lock

# After the dependencies: a change of the code does not install them again.
COPY . .
RUN uv build --wheel --no-cache --require-hashes --build-constraints requirements.lock \
        --out-dir /tmp/wheel . \
    && uv pip install --python /opt/marlin/bin/python --no-cache --compile-bytecode \
        --no-deps /tmp/wheel/*.whl


FROM python:3.12-slim

RUN useradd --system --uid 10001 --create-home --home-dir /data marlin
COPY --from=build /opt/marlin /opt/marlin

ENV PATH=/opt/marlin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MARLIN_HOME=/data
USER marlin
WORKDIR /data
VOLUME /data

# `worker` and `sink` write this file when they are ready and remove it when they stop.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["test", "-f", "/tmp/ready"]
# Ctrl-C and `docker stop` let them finish and commit what they have read.
STOPSIGNAL SIGTERM
ENTRYPOINT ["marlin"]
CMD ["--help"]
