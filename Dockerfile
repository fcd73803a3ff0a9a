# Two stages: the first installs, the second runs. No compiler, no root, no secret in any layer.
#
#   docker build --build-arg OKASIE_COMMIT=$(git describe --always --dirty --exclude='*') --tag okasie-tasks .
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE celeryconfig.py docker-compose.yml ./
COPY okasie_tasks ./okasie_tasks
COPY deploy ./deploy
COPY examples ./examples
ARG OKASIE_COMMIT=
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[sql,flower,metrics,web,otel]'

FROM python:3.11-slim
# Any user id may run it, with an entry in /etc/passwd or without. Nothing is written outside of /tmp and the state.
RUN useradd --system --uid 10001 --gid 0 --create-home --home-dir /var/lib/okasie okasie \
    && chmod 0755 /var/lib/okasie \
    && install --directory --owner 10001 --group 0 --mode 1777 /var/lib/okasie/state
COPY --from=build /venv /venv
WORKDIR /app
COPY celeryconfig.py ./
ENV PATH=/venv/bin:$PATH \
    HOME=/var/lib/okasie \
    PYTHONUNBUFFERED=1 \
    OKASIE_CONFIG=/etc/okasie/okasie.toml \
    OKASIE_REDIS__STATE_DIR=/var/lib/okasie/state
USER 10001:0
CMD ["okasie", "--help"]
