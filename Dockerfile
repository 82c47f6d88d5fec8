# livestack in a container: `docker build -t livestack .`; how to run it: docs/install.md
FROM python:3.12-slim AS build
RUN python -m venv /opt/livestack
COPY pyproject.toml README.md LICENSE /source/
COPY livestack /source/livestack
# NUMBA_CACHE_DIR: loops are compiled once, into a folder that the user of the container may write to
RUN /opt/livestack/bin/python -m pip install --no-cache-dir "/source[catalogue,satellites]" \
    && find /opt/livestack -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 livestack \
    && mkdir -p /frames /results /home/livestack/.cache/numba \
    && chown -R livestack:livestack /frames /results /home/livestack
COPY --from=build /opt/livestack /opt/livestack
ENV PATH=/opt/livestack/bin:$PATH \
    NUMBA_CACHE_DIR=/home/livestack/.cache/numba \
    MPLCONFIGDIR=/home/livestack/.cache/matplotlib \
    PYTHONUNBUFFERED=1
USER livestack
WORKDIR /results
VOLUME ["/frames", "/results"]
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/', timeout=4)"]
ENTRYPOINT ["livestack"]
CMD ["app", "--no-browser", "--host", "0.0.0.0", "--root", "/frames", "--root", "/results"]
