# Two stages: the first installs, the second runs. No compiler, no root, no secret in any layer.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE celeryconfig.py docker-compose.yml ./
COPY okasie_tasks ./okasie_tasks
COPY deploy ./deploy
COPY examples ./examples
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[sql,flower,metrics]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/okasie okasie
COPY --from=build /venv /venv
WORKDIR /app
COPY celeryconfig.py ./
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OKASIE_CONFIG=/etc/okasie/okasie.toml \
    OKASIE_REDIS__STATE_DIR=/var/lib/okasie/state
USER okasie
CMD ["okasie", "--help"]
