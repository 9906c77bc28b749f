#!/usr/bin/env bash
# `docker compose up` for real: how containers are confined, one job with a small training, answers and their evaluation by curl, its
# artifacts listed in the object store, its model deployed and answering, every service restarted in the middle of a job, workers that
# leave and come back, a backup restored into a system of its own. Needs a Docker engine with Compose v2 and the images that
# docker-compose.yml names. Leaves nothing running.
#
# TORCH and TORCH_INDEX choose the build of torch, as for docker compose. BUILD=0 takes the images as they are. STORE=folder puts a
# store of ours in MinIO's place (for machines without its image). PARTS chooses from: confinement job restarts scaling backup.
# SERVICES="redis api" restarts those alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
PARTS=${PARTS:-confinement job restarts scaling backup}
export COMPOSE_PROJECT_NAME=multifacet-test MULTIFACET_PORT=${MULTIFACET_PORT:-18080} MINIO_CONSOLE_PORT=${MINIO_CONSOLE_PORT:-19001}
export COMPOSE_FILE=docker-compose.yml:tests/compose/override.yml SECRETS_FOLDER=$work/secrets WORKER_IDLE_SECONDS=3600
base=http://127.0.0.1:$MULTIFACET_PORT
finish() {
  code=$?
  if [ $code -ne 0 ]; then docker compose ps --all; docker compose logs --tail 40; fi
  docker compose down --volumes --timeout 20 >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
trap finish EXIT
part() { case " $PARTS " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

echo "== secrets"
bash infra/compose/secrets.sh "$SECRETS_FOLDER"

echo "== build and start"
if [ "${BUILD:-1}" = 1 ]; then
  # The plain builder: it needs nothing from a registry beyond the base images.
  export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}
  for target in base torch; do
    name=multifacet; [ $target = base ] || name=multifacet-$target
    docker build --quiet --tag $name:latest --file infra/docker/Dockerfile --target $target \
      --build-arg TORCH="${TORCH:-torch==2.13.0}" --build-arg TORCH_INDEX="${TORCH_INDEX:-}" .
  done
  docker build --quiet --tag multifacet-docker-proxy:latest --file infra/docker/docker-proxy.Dockerfile infra/docker
fi
if [ "${STORE:-}" = folder ]; then
  DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --quiet --tag multifacet-test-store:1 --file tests/compose/store.Dockerfile tests/chaos
  export MINIO_IMAGE=multifacet-test-store:1
fi
if part confinement; then
  echo "== known defaults are refused"
  if docker run --rm --env MULTIFACET_DATABASE_PASSWORD=multifacet multifacet:latest multifacet migrate 2>"$work/refused"; then
    echo "a password that everybody knows was taken"; exit 1
  fi
  cat "$work/refused"; grep --quiet "everybody knows" "$work/refused"
fi
docker compose up --detach --no-build --quiet-pull 2>&1 | tail -n 40

echo "== wait for the api"
for _ in $(seq 300); do
  if curl --silent --fail --max-time 3 "$base/health/ready" >/dev/null; then break; fi
  sleep 1
done
curl --silent --show-error --fail "$base/health/ready"; echo

echo "== a key, and a request without one"
key=$(docker compose exec -T api python -m services.api create-key --project default --scopes read,write,admin | grep -oE 'mf_[A-Za-z0-9_-]+' | head -n 1)
[ "$(curl --silent --output /dev/null --write-out '%{http_code}' "$base/v1/jobs")" = 401 ] || { echo "no key was asked for"; exit 1; }
auth=(--header "authorization: Bearer $key")

export MULTIFACET_API_KEY=$key

if part confinement; then
  echo "== confinement"
  for _ in $(seq 120); do
    if ! docker compose ps --format '{{.Health}}' | grep --quiet starting; then break; fi
    sleep 2
  done
  python3 tests/compose/confinement.py
fi

echo "== the commands with which the runbook begins"
docker compose exec -T api multifacet pools
docker compose exec -T api multifacet jobs

one_job() {
echo "== submit by curl"
curl --silent --show-error --fail "${auth[@]}" --header 'content-type: application/json' --dump-header "$work/headers" \
  --data '{"name":"compose","sources":[{"bundled":"demo","limit":40}],"teacher":{"provider":"simulator","model":"simulator-small"},"train":[{"preset":"smoke-cpu","name":"sft","maximum_steps":4}],"judge":{"provider":"simulator","model":"simulator-small"},"questions":{"maximum_rows":2},"bench":{"name":"compose"},"evaluate":{"absolute":{"runs":1}},"answer":[{"name":"answers","candidate":{"stage":"sft"},"decoding":{"max_tokens":8}}]}' \
  "$base/v1/jobs" >"$work/job.json"
grep -i '^location:' "$work/headers"
job=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["id"])' "$work/job.json")

echo "== wait for $job"
for _ in $(seq 360); do
  curl --silent --fail "${auth[@]}" "$base/v1/jobs/$job" >"$work/job.json"
  state=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["state"])' "$work/job.json")
  case $state in succeeded|failed|cancelled) break ;; esac
  sleep 1
done
python3 - "$work/job.json" <<'P'
import json, sys
job = json.load(open(sys.argv[1]))
for stage in job["stages"]:
    print(f"{stage['name']:<10} {stage['state']:<10} {stage['ledger']}")
assert job["state"] == "succeeded", job["error"]
P

echo "== its objects in the store"
docker compose exec -T api python - "$job" <<'P'
import asyncio, sys
from shared.artifacts import open_store
from shared.settings import get_settings

async def main() -> None:
    found = [info async for info in open_store(get_settings()).list_objects("artifacts/")]
    mine = [info for info in found if sys.argv[1] in info.key]
    for info in mine:
        print(f"{info.size:>9}  {info.key.split(sys.argv[1] + '/')[1]}")
    names = [info.key for info in mine]
    for wanted in ("manifest.json", "report", "exports/dpo/train", "exports/rm/train", "collection/train", "README.md",
                   "sft/model/model", "sft/preview", "sft/metrics", "bench/bench-rows", "evaluate/report", "evaluate/evaluation"):
        assert any(wanted in name for name in names), f"no {wanted} among the objects"

asyncio.run(main())
P

echo "== the model that it registered"
curl --silent --show-error --fail "${auth[@]}" "$base/v1/registry/models?job=$job" >"$work/models.json"
model=$(python3 -c 'import json,sys; (found,) = json.load(open(sys.argv[1]))["items"]; print(found["id"])' "$work/models.json")
curl --silent --show-error --fail "${auth[@]}" "$base/v1/registry/models/$model" >"$work/model.json"
weights=$(python3 - "$work/model.json" <<'P'
import json, sys
files = {file["name"]: file for file in json.load(open(sys.argv[1]))["files"]}
print(files["model/model.safetensors"]["id"], files["model/model.safetensors"]["sha256"])
P
)
curl --silent --show-error --fail "${auth[@]}" "$base/v1/artifacts/${weights% *}/content" >"$work/model.safetensors"
echo "${weights#* }  $work/model.safetensors" | sha256sum --check --quiet
echo "$model: $(stat --format %s "$work/model.safetensors") bytes of weights, as registered"
echo "== the model deployed on the CPU server"
curl --silent --show-error --fail "${auth[@]}" --header 'content-type: application/json' \
  --data "{\"name\":\"tiny\",\"target\":{\"registry\":\"$model\"}}" "$base/v1/deployments" >"$work/deployment.json"
for _ in $(seq 180); do
  curl --silent --fail "${auth[@]}" "$base/v1/deployments/tiny" >"$work/deployment.json"
  state=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["state"])' "$work/deployment.json")
  case $state in ready|failed) break ;; esac
  sleep 1
done
python3 - "$work/deployment.json" <<'P'
import json, sys
deployment = json.load(open(sys.argv[1]))
for event in reversed(deployment["events"]):
    print(f"{event['revision']} {event['type']:<10} {event['detail']}")
assert deployment["state"] == "ready", deployment["detail"]
P

echo "== it answers"
curl --silent --show-error --fail "${auth[@]}" --header 'content-type: application/json' \
  --data '{"model":"tiny","max_tokens":8,"messages":[{"role":"user","content":"Name a colour."}]}' \
  "$base/v1/chat/completions" >"$work/answer.json"
python3 - "$work/answer.json" <<'P'
import json, sys
answer = json.load(open(sys.argv[1]))
(choice,) = answer["choices"]
assert choice["message"]["role"] == "assistant", answer
print(f"finish_reason {choice['finish_reason']}, {answer['usage']['completion_tokens']} tokens")
P

echo "== undeployed"
curl --silent --show-error --fail "${auth[@]}" --request DELETE "$base/v1/deployments/tiny" | grep --quiet '"stopped"'
}
if part job; then one_job; fi

if part restarts; then
  echo "== every service restarted in the middle of a job"
  # shellcheck disable=SC2086
  python3 tests/compose/restarts.py "$base" ${SERVICES:-}
fi

if part scaling; then
  echo "== to zero and back"
  export WORKER_IDLE_SECONDS=20
  docker compose up --detach --no-build 2>&1 | tail -n 3
  python3 tests/compose/scaling.py "$base"
fi

if part backup; then
  echo "== backed up amid a job, and restored into a system of its own"
  python3 tests/compose/backup.py "$base" "$work/backups"
fi

echo "== no secret in a log"
docker compose logs --no-color >"$work/log" 2>&1
for file in "$SECRETS_FOLDER"/*; do
  if [ "$(wc -c <"$file")" -gt 1 ] && [ "${file##*/}" != s3_access_key ] && grep --quiet --fixed-strings "$(cat "$file")" "$work/log"; then
    echo "the logs hold ${file##*/}"; exit 1
  fi
done
echo "passed: $PARTS"
