# Packages of a Debian suite on a base of that suite. Flattened at the end, so that no layer and no line of
# history keeps the mirror's address, which may hold a password.
ARG BASE
FROM ${BASE} AS made
ARG OWNER
ARG HOST
LABEL torchskew.owner=${OWNER} torchskew.host=${HOST} torchskew.stage=made
COPY apt /etc/apt/
ARG PACKAGES
RUN if [ -s /etc/apt/sources.list ]; then rm -rf /etc/apt/sources.list.d; fi \
 && apt-get update --error-on=any \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${PACKAGES} \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/* \
    /etc/apt/sources.list /etc/apt/certificates.pem /etc/apt/apt.conf.d/99torchskew

FROM scratch
COPY --from=made / /
