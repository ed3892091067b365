# Built by `docker build --build-arg VERSION=$(git describe --tags --always) .`
# Two stages: the compiler, then an image with the binary, CA roots and nothing
# else: no shell, not root.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/mailsyncd ./cmd/mailsyncd \
 && mkdir -p /out/state /out/run

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/mailsyncd /usr/local/bin/mailsyncd
COPY --from=build --chown=65532:65532 /out/state /var/lib/mailsyncd
COPY --from=build --chown=65532:65532 /out/run /run/mailsyncd
USER 65532:65532
VOLUME /var/lib/mailsyncd
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mailsyncd"]
CMD ["serve", "--config", "/etc/mailsyncd/config.yaml"]
