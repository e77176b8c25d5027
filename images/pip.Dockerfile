# Wheels that the host resolved and unpacked, on a base that holds only the suite's Python. The host's indexes,
# proxies and certificates therefore never enter the image.
ARG BASE
FROM ${BASE}
ARG PYTHON
COPY site /usr/local/lib/python${PYTHON}/dist-packages
# Compiled here, because the containers' root is read-only. Packages ship templates that are no Python: no failure.
RUN python3 -m compileall -q -j 0 /usr/local/lib/python${PYTHON}/dist-packages >/dev/null || true
