# Written by tools/generate.py from the template of `tidegate deploy docker`.
#     docker build -t tidegate . && docker run --rm -p 127.0.0.1:8000:8000 tidegate
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/tidegate \
 && /opt/tidegate/bin/pip install --no-cache-dir '.[serve,crypto,workers]'

FROM python:3.13-slim
COPY --from=build /opt/tidegate /opt/tidegate
# A number, so that Kubernetes can see that it is not root. It writes no file: run it --read-only.
USER 65532:65532
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TIDEGATE_SERVER_HOST=0.0.0.0
EXPOSE 8000
# At the admin listener, which is plain HTTP where clients have TLS or the PROXY protocol too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8001/health', timeout=3)"]
# SIGTERM drains: run it with --stop-timeout 40. Every connection holds a descriptor: run it
# with --ulimit nofile=12288. It starts no processes, so that it needs no init.
STOPSIGNAL SIGTERM
# For an ASGI application, COPY it, install what it needs, and CMD ["run", "main:app"].
ENTRYPOINT ["tidegate"]
CMD ["serve"]
