# One image for every role: `api` (the default), `worker`, `migrate`.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/production.txt /build/
RUN python -m venv /opt/chainrule \
    && /opt/chainrule/bin/pip install --require-hashes --no-deps -r /build/production.txt

FROM python:3.11-slim-bookworm
ARG REVISION=unknown CREATED=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="Chainrule" \
      org.opencontainers.image.description="Trains neural networks over HTTP" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE"
ENV PATH=/opt/chainrule/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    CHAINRULE_HOME=/var/lib/chainrule \
    CHAINRULE_HOST=0.0.0.0
RUN install --directory --owner=10001 --group=10001 /var/lib/chainrule
COPY --from=build /opt/chainrule /opt/chainrule
WORKDIR /srv/chainrule
COPY app app
COPY engine engine
COPY migrations migrations
COPY worker worker
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "app.cli"]
CMD ["api"]
