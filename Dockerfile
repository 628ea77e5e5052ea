# docker build -t tidegate . && docker run --rm -p 127.0.0.1:8000:8000 tidegate
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/tidegate \
 && /opt/tidegate/bin/pip install --no-cache-dir '.[serve,crypto]'

FROM python:3.13-slim
COPY --from=build /opt/tidegate /opt/tidegate
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV PATH=/opt/tidegate/bin:$PATH \
    TIDEGATE_SERVER_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=3)"]
# SIGTERM drains for up to 35 s: run it with --stop-timeout 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidegate"]
CMD ["serve"]
