# A Nutshell mint in an environment of its own. Built by deploy/compose.yaml; no container engine has run it yet.
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

WORKDIR /src
COPY constraints-mint.txt ./
RUN pip install --no-cache-dir --constraint constraints-mint.txt cashu limits marshmallow

COPY --chmod=755 deploy/mint.sh /usr/local/bin/mint.sh

RUN useradd --uid 10002 --create-home mint && install -d -o mint -g mint -m 0700 /var/lib/mint
USER mint
WORKDIR /var/lib/mint
VOLUME /var/lib/mint
EXPOSE 3338

ENV PYTHONUNBUFFERED=1

ENTRYPOINT ["mint.sh"]
