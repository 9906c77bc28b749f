# HAProxy before the engine's socket; its rules are in docker-proxy.cfg. Build context: this folder.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy >/dev/null \
 && rm -rf /var/lib/apt/lists/*
COPY docker-proxy.cfg /etc/haproxy/docker-proxy.cfg
EXPOSE 2375
CMD ["haproxy", "-W", "-db", "-f", "/etc/haproxy/docker-proxy.cfg"]
