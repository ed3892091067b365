# docker build --build-arg VERSION="$(git describe --tags --always)" -t mailsyncd .
# Two stages: the compiler, then an image with the binary, CA roots and nothing
# else: static, no shell, not root.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/usr/local/bin/mailsyncd ./cmd/mailsyncd \
 && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/mailsyncd /out/run/mailsyncd \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=build /out /
USER 65532:65532
VOLUME /var/lib/mailsyncd
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/mailsyncd"]
CMD ["serve", "--config", "/etc/mailsyncd/config.yaml"]
