#!/usr/bin/env bash
# Make the files of secrets that docker-compose.yml names, with random values; what is there stays as it is.
# Usage: secrets.sh [FOLDER]
#
# The folder can be entered by its owner alone. The files in it can be read by whoever gets there: the engine mounts single files
# into containers, whose users (10001, postgres) are none of this machine, and keeps owner and mode.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() { # random BYTES: as text of letters, digits, - and _
  head -c "$1" /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'
}

made=0
make_file() { # make_file NAME VALUE
  local file="$folder/$1"
  if [ -e "$file" ]; then return; fi
  printf '%s\n' "$2" >"$file.new"
  chmod 444 "$file.new"
  mv -n "$file.new" "$file"
  made=$((made + 1))
}

make_file database_password "$(random 32)"
make_file redis_password "$(random 32)"
make_file s3_access_key "mf$(head -c 9 /dev/urandom | od -An -tx1 | tr -d ' \n')"
make_file s3_secret_key "$(random 30)"
make_file bootstrap_key "mf_$(random 32)"
make_file launcher_token "$(random 32)"
make_file metrics_token "$(random 32)"
make_file grafana_password "$(random 24)"
# Of others: an empty file is a key that is not set.
for name in openai_api_key perspective_key hf_token wandb_api_key; do
  make_file "$name" ""
done
echo "$folder: $made made, $(find "$folder" -type f | wc -l) there; keys of providers go into openai_api_key, hf_token, perspective_key, wandb_api_key"
