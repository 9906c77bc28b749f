"""The launcher as a process, with a stand-in for TGI's launcher and an api that a test moves."""

import ast
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.inference.launcher import (
    HUB_PATTERNS,
    CannotServe,
    checked_name,
    fill_in,
    free_port,
    hub_files,
    safe_name,
)
from shared import model_folder
from tests.services.inference.launching import (
    ROOT,
    TOKEN,
    FakeApi,
    FakeHub,
    Launcher,
    crash,
    generate,
    runs,
)

FILE = ROOT / "services/inference/launcher.py"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.http.close()


@pytest.fixture
def started(api: FakeApi, tmp_path: Path) -> Iterator[Any]:
    made: list[Launcher] = []

    def start(*options: str, **environment: str) -> Launcher:
        made.append(Launcher(api, tmp_path / "cache", *options, **environment))
        return made[-1]

    yield start
    for launcher in made:
        launcher.close()


def test_the_launcher_is_one_file_of_the_standard_library_that_python_3_9_reads() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_a_model_is_fetched_started_and_reported_with_what_its_server_says(api: FakeApi, started: Any) -> None:
    launcher = started()
    assert api.until(lambda now: now["state"] == "empty")["serving"] is None
    api.want("dep_1:1", api.model("m1", answer="one"), arguments=["--max-total-tokens", "99"])
    now = api.until_serving("dep_1:1")
    assert generate(now["address"])["generated_text"] == "one"
    assert now["facts"] == {
        "model": str(launcher.folder / "models/m1"), "version": "3.3.7-stand-in", "dtype": "torch.float16",
        "maximum_input_tokens": 98, "maximum_total_tokens": 99,
    }  # fmt: skip
    assert api.tokens == {f"Bearer {TOKEN}"}
    states = [place["state"] for report in api.reports for place in report["places"]]
    order = [state for number, state in enumerate(states) if state != (states[number - 1] if number else None)]
    assert [state for state in order if state != "fetching"] == ["empty", "starting", "ready"]


def test_the_token_is_not_handed_on_to_servers_nor_told_in_the_log(api: FakeApi, started: Any) -> None:
    launcher = started()
    api.want("dep_1:1", api.model("m1"))
    now = api.until_serving("dep_1:1")
    assert generate(now["address"])["token"] is None
    assert TOKEN not in launcher.said()
    assert "files/m1" not in launcher.said(), "URLs may be signed: none is logged"


def test_tokens_may_lie_in_files_and_stand_before_the_variables(api: FakeApi, started: Any, tmp_path: Path) -> None:
    hub = FakeHub({"config.json": b"{}", "model.safetensors": b"weights"})
    (tmp_path / "token").write_text("of-the-file\n")
    (tmp_path / "hub").write_text("hub-of-the-file\n")
    launcher = started(
        MULTIFACET_LAUNCHER_TOKEN_FILE=str(tmp_path / "token"),
        HF_TOKEN_FILE=str(tmp_path / "hub"),
        HF_ENDPOINT=hub.http.url,
    )
    api.want("dep_1:1", {"key": "hub-some/model@v1", "repository": "some/model", "revision": "v1"})
    now = api.until_serving("dep_1:1")
    assert api.tokens == {"Bearer of-the-file"}
    assert dict(hub.seen)["/some/model/resolve/c0ffee/model.safetensors"] == "Bearer hub-of-the-file"
    assert generate(now["address"])["token"] is None
    assert "of-the-file" not in launcher.said()
    hub.close()


def test_a_file_of_a_token_that_cannot_be_read_is_told_in_one_line(api: FakeApi, started: Any) -> None:
    launcher = started(MULTIFACET_LAUNCHER_TOKEN_FILE="/nowhere/token")
    assert launcher.process.wait(30) == 1
    assert launcher.said().startswith("MULTIFACET_LAUNCHER_TOKEN_FILE=/nowhere/token cannot be read")
    assert launcher.said().count("\n") == 1


def test_it_shows_that_it_lives_also_while_the_api_is_away(api: FakeApi, started: Any, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    launcher = started(MULTIFACET_HEALTH_FILE=str(alive))
    wait_for(alive.exists)
    api.away = True
    wait_for(lambda: "api_trouble" in launcher.events())
    alive.unlink()
    wait_for(alive.exists)


def test_another_model_takes_over_without_a_moment_in_which_nothing_answers(api: FakeApi, started: Any) -> None:
    started()
    api.want("dep_1:1", api.model("m1", answer="one"))
    first = api.until_serving("dep_1:1")
    old = generate(first["address"])["pid"]
    seen: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        """As a client that goes where the api was told last."""
        while not ended.is_set():
            seen.append(generate(api.place()["address"])["generated_text"])

    client = threading.Thread(target=ask)
    client.start()
    api.want("dep_1:2", api.model("m2", answer="two", health_after=0.5))
    second = api.until_serving("dep_1:2")
    wait_for(lambda: not runs(old))
    ended.set()
    client.join()
    assert second["address"] != first["address"]
    assert set(seen) == {"one", "two"}
    assert seen == sorted(seen)
    switching = [place for report in api.reports for place in report["places"] if place["about"] == "dep_1:2"]
    assert all(place["serving"] in {"dep_1:1", "dep_1:2"} for place in switching)


def test_a_request_under_way_is_answered_by_the_server_that_is_replaced(api: FakeApi, started: Any) -> None:
    started()
    api.want("dep_1:1", api.model("m1", answer="slow", answer_after=3))
    address = api.until_serving("dep_1:1")["address"]
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(generate(address)["generated_text"]))
    client.start()
    time.sleep(0.2)
    api.want("dep_1:2", api.model("m2"))
    api.until_serving("dep_1:2")
    client.join()
    assert answers == ["slow"]


def test_with_restart_the_old_server_ends_before_the_new_one_starts(api: FakeApi, started: Any) -> None:
    started("--replace", "restart")
    api.want("dep_1:1", api.model("m1"))
    old = generate(api.until_serving("dep_1:1")["address"])["pid"]
    api.want("dep_1:2", api.model("m2", health_after=1.0))
    api.until(lambda now: now["state"] == "starting" and now["about"] == "dep_1:2")
    assert not runs(old)
    assert api.place()["serving"] is None
    api.until_serving("dep_1:2")


@pytest.mark.parametrize("replace", ["overlap", "restart"])
def test_what_cannot_be_served_is_told_with_the_servers_words_and_the_one_before_answers(
    api: FakeApi, started: Any, replace: str
) -> None:
    started("--replace", replace)
    api.want("dep_1:1", api.model("m1", answer="one"))
    api.until_serving("dep_1:1")
    api.want("dep_1:2", api.model("m2", exit=3))
    now = api.until(lambda now: now["state"] == "failed")
    assert now["about"] == "dep_1:2"
    assert "ended with status 3" in now["detail"]
    assert "out of memory" in now["detail"]
    # The api has not said yet that the first is wanted again.
    now = api.until(lambda now: now["serving"] == "dep_1:1")
    assert generate(now["address"])["generated_text"] == "one"
    api.want("dep_1:1", api.model("m1", answer="one"))
    api.until_serving("dep_1:1")


def test_a_server_that_is_never_healthy_is_given_up_in_time(api: FakeApi, started: Any) -> None:
    started("--start-seconds", "1")
    api.want("dep_1:1", api.model("m1", never_healthy=True))
    assert "not healthy within 1 s" in api.until(lambda now: now["state"] == "failed")["detail"]


def test_a_server_that_crashes_is_started_again_and_given_up_when_it_crashes_on(api: FakeApi, started: Any) -> None:
    started("--crashes", "2")
    api.want("dep_1:1", api.model("m1"))
    pids = set()
    for number in range(3):
        now = api.until_serving("dep_1:1")
        pids.add(generate(now["address"])["pid"])
        crash(now["address"])
        if number < 2:
            told = api.until(lambda now: now["state"] == "starting" and now["serving"] is None)
            assert f"status 9; started again ({number + 1} of 2)" in told["detail"]
    now = api.until(lambda now: now["state"] == "failed")
    assert "3 times in a row" in now["detail"]
    assert (now["about"], now["serving"], len(pids)) == ("dep_1:1", None, 3)


def test_a_server_that_runs_and_answers_nothing_is_started_again(api: FakeApi, started: Any) -> None:
    started("--hung-seconds", "0.8", "--stop-seconds", "1")
    api.want("dep_1:1", api.model("m1"))
    first = api.until_serving("dep_1:1")
    pid = generate(first["address"])["pid"]
    httpx2.get(f"{first['address']}/hang", timeout=5)
    told = api.until(lambda now: now["state"] == "starting" and now["serving"] is None)
    assert "was not healthy for 0.8 s; started again (1 of 5)" in told["detail"]
    again = api.until_serving("dep_1:1")
    assert generate(again["address"])["pid"] != pid
    assert not runs(pid)


def test_of_a_model_on_the_hub_the_same_files_are_taken_as_for_training() -> None:
    assert HUB_PATTERNS == model_folder.HUB_PATTERNS


def test_ports_are_taken_in_turn_so_that_an_old_address_finds_no_other_model() -> None:
    first = free_port(0)
    taken = [free_port(first) for _ in range(5)]
    assert len(set(taken)) == len(taken)
    assert all(first <= port < first + 200 for port in taken)


def test_nothing_wanted_ends_the_server(api: FakeApi, started: Any) -> None:
    started()
    api.want("dep_1:1", api.model("m1"))
    pid = generate(api.until_serving("dep_1:1")["address"])["pid"]
    api.wanted = {}
    api.until(lambda now: now["state"] == "empty")
    wait_for(lambda: not runs(pid))


def test_places_serve_side_by_side(api: FakeApi, started: Any) -> None:
    started("--places", "3")
    shared = api.model("m", answer="same")
    for place in range(3):
        api.want(f"dep_{place}:1", shared, place)
    addresses = {api.until_serving(f"dep_{place}:1", place)["address"] for place in range(3)}
    assert len(addresses) == 3
    assert len([path for path in api.ranges if path is None]) == 1, "one of the three fetched it for all"


# Files.


def test_bytes_that_are_not_those_on_record_are_refused_and_not_kept(api: FakeApi, started: Any) -> None:
    launcher = started()
    model = api.model("m1", {"model.safetensors": b"weights"})
    path = next(file["url"] for file in model["files"] if file["name"] == "model.safetensors")
    api.files[path] = b"changed"
    api.want("dep_1:1", model)
    now = api.until(lambda now: now["state"] == "failed")
    assert "model.safetensors" in now["detail"]
    assert sha256(b"weights").hexdigest() in now["detail"]
    assert sha256(b"changed").hexdigest() in now["detail"]
    assert not (launcher.folder / "models/m1").exists()
    assert not list(launcher.folder.rglob("*.part"))


def test_a_file_longer_than_on_record_is_refused(api: FakeApi, started: Any) -> None:
    started()
    model = api.model("m1", {"model.safetensors": b"weights"})
    path = next(file["url"] for file in model["files"] if file["name"] == "model.safetensors")
    api.files[path] = b"weights and more"
    api.want("dep_1:1", model)
    assert "model.safetensors" in api.until(lambda now: now["state"] == "failed")["detail"]


def test_a_file_that_broke_off_is_gone_on_with(api: FakeApi, started: Any) -> None:
    api.breaks_after = 600_000
    content = bytes(range(256)) * 8000
    started()
    model = api.model("m1", {"model.safetensors": content})
    model["files"].sort(key=lambda file: -file["size"])
    api.want("dep_1:1", model)
    now = api.until_serving("dep_1:1")
    assert "bytes=600000-" in api.ranges
    assert (Path(now["facts"]["model"]) / "model.safetensors").read_bytes() == content


def test_what_was_begun_with_other_bytes_is_fetched_anew(api: FakeApi, started: Any, tmp_path: Path) -> None:
    begun = tmp_path / "cache/models/m1.partial"
    begun.mkdir(parents=True)
    (begun / "model.safetensors.part").write_bytes(b"XXX")
    (begun / "left.over").write_bytes(b"of another list")
    started()
    api.want("dep_1:1", api.model("m1", {"model.safetensors": b"weights"}))
    folder = Path(api.until_serving("dep_1:1")["facts"]["model"])
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not (folder / "left.over").exists()


def test_a_store_that_does_not_answer_is_waited_for(api: FakeApi, started: Any) -> None:
    api.refuses_files = 3
    started()
    api.want("dep_1:1", api.model("m1"))
    assert "503" in api.until(lambda now: now["state"] == "fetching" and now["detail"])["detail"]
    api.until_serving("dep_1:1")


def test_a_file_that_is_gone_is_told_at_once(api: FakeApi, started: Any) -> None:
    started()
    model = api.model("m1")
    api.files.clear()
    api.want("dep_1:1", model)
    assert "is gone from the store" in api.until(lambda now: now["state"] == "failed")["detail"]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "", ".complete.json"])
def test_names_that_lead_out_of_the_folder_are_refused(name: str) -> None:
    with pytest.raises(CannotServe):
        checked_name(name)


def test_different_keys_never_share_a_folder() -> None:
    keys = ["a/b", "a_b", "a b", "a", "..", ".", "hub-x@main", "hub-x-main", "x" * 200, "x" * 201]
    names = [safe_name(key) for key in keys]
    assert len(set(names)) == len(names)
    assert all("/" not in name and name.strip(".") for name in names)


def test_models_not_in_use_make_room_for_new_ones(api: FakeApi, started: Any) -> None:
    launcher = started("--cache-gigabytes", "0.001", "--replace", "restart")
    big = {"model.safetensors": b"x" * 400_000}
    for number in (1, 2, 3):
        api.want(f"dep_1:{number}", api.model(f"m{number}", big))
        api.until_serving(f"dep_1:{number}")
    kept = {path.name for path in (launcher.folder / "models").iterdir()}
    assert "m3" in kept
    assert "m1" not in kept
    api.want("dep_1:4", api.model("m4", {"model.safetensors": b"x" * 1_100_000}))
    assert "raise --cache-gigabytes" in api.until(lambda now: now["state"] == "failed")["detail"]
    assert "m3" in {path.name for path in (launcher.folder / "models").iterdir()}, "it serves again"


def test_a_problem_that_the_api_has_is_handed_back(api: FakeApi, started: Any) -> None:
    started()
    api.want("dep_1:1", None, problem="its base is gone")
    assert api.until(lambda now: now["state"] == "failed")["detail"] == "its base is gone"


# Adapters, folders, the Hub.


def test_adapters_are_given_by_the_deployments_name_on_a_base_of_the_operators_folder(
    api: FakeApi, started: Any, tmp_path: Path
) -> None:
    base = tmp_path / "operators" / "mistral"
    base.mkdir(parents=True)
    launcher = started("--models-folder", str(tmp_path / "operators"))
    adapters = api.model("a1", {"adapter_config.json": b"{}"})
    api.want("dep_1:1", {"key": "folder-mistral", "folder": "mistral"}, adapters=adapters)
    now = api.until_serving("dep_1:1")
    assert now["facts"]["model"] == str(base)
    assert generate(now["address"])["adapters"] == f"mine={launcher.folder / 'models/a1'}"


@pytest.mark.parametrize("folder", ["../elsewhere", "nowhere", "."])
def test_a_folder_that_the_operator_does_not_have_is_refused(
    api: FakeApi, started: Any, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "operators").mkdir()
    (tmp_path / "elsewhere").mkdir()
    started("--models-folder", str(tmp_path / "operators"))
    api.want("dep_1:1", {"key": f"folder-{folder}", "folder": folder})
    assert "has no folder" in api.until(lambda now: now["state"] == "failed")["detail"]


def test_a_base_on_the_hub_is_fetched_as_data_alone_and_the_token_goes_nowhere_else(api: FakeApi, started: Any) -> None:
    hub = FakeHub(
        {"config.json": b"{}", "model.safetensors": b"weights", "code.py": b"import os", "pytorch_model.bin": b"pickle"}
    )
    started(HF_ENDPOINT=hub.http.url, HF_TOKEN="hub-token")
    api.want("dep_1:1", {"key": "hub-some/model@v1", "repository": "some/model", "revision": "v1"})
    folder = Path(api.until_serving("dep_1:1")["facts"]["model"])
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", ".complete.json"}
    tokens = dict(hub.seen)
    assert tokens["/some/model/resolve/c0ffee/model.safetensors"] == "Bearer hub-token"
    assert tokens["storage/model.safetensors"] is None
    hub.close()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_the_hub_that_is_another_than_its_list_says_is_refused(api: FakeApi, started: Any, name: str) -> None:
    hub = FakeHub({"config.json": b"{}", "model.safetensors": b"weights"})
    hub.sent = {name: b"[]" if name == "config.json" else b"WEIGHTS"}
    started(HF_ENDPOINT=hub.http.url)
    api.want("dep_1:1", {"key": "hub-some/model@v1", "repository": "some/model", "revision": "v1"})
    assert name in api.until(lambda now: now["state"] == "failed")["detail"]
    hub.close()


@pytest.mark.parametrize("name", ["../../api/whoami", "a/b/c", "a/../b", "", "a b", "https://elsewhere"])
def test_names_that_are_none_on_the_hub_are_never_asked_for(name: str) -> None:
    with pytest.raises(CannotServe, match="no name of a model"):
        hub_files(name, None)


def test_an_unknown_model_of_the_hub_is_told_in_words(api: FakeApi, started: Any) -> None:
    hub = FakeHub({})
    started(HF_ENDPOINT=hub.http.url)
    api.want("dep_1:1", {"key": "hub-no/model@main", "repository": "no/model", "revision": None})
    assert "the Hub has no model no/model" in api.until(lambda now: now["state"] == "failed")["detail"]
    hub.close()


# The api away, ends, restarts.


def test_what_serves_goes_on_while_the_api_is_away_and_crashes_are_mended(api: FakeApi, started: Any) -> None:
    launcher = started()
    api.want("dep_1:1", api.model("m1", answer="one"))
    address = api.until_serving("dep_1:1")["address"]
    api.away = True
    wait_for(lambda: "api_trouble" in launcher.events())
    assert generate(address)["generated_text"] == "one"
    crash(address)
    wait_for(lambda: launcher.events().count("server_started") == 2)
    api.away = False
    now = api.until(lambda now: now["serving"] == "dep_1:1" and now["address"] != address)
    assert generate(now["address"])["generated_text"] == "one"
    assert launcher.events().count("api_trouble") == 1, "trouble is told once, not with every try"


def test_a_launcher_that_starts_while_the_api_is_away_serves_from_its_cache_what_it_did(
    api: FakeApi, started: Any
) -> None:
    launcher = started()
    api.want("dep_1:1", api.model("m1", answer="one"))
    api.until_serving("dep_1:1")
    assert launcher.stop() == 0
    state = json.loads((launcher.folder / "state.json").read_text())
    assert {file["url"] for file in state["0"]["model"]["files"]} == {""}, "no URL is kept"
    api.away = True
    launcher.start()
    wait_for(lambda: launcher.events().count("server_started") == 2)
    address = f"http://127.0.0.1:{launcher.told('server_started')[-1]['port']}"
    wait_for(lambda: answers(address))
    assert generate(address)["generated_text"] == "one"


def test_a_killed_launcher_leaves_nothing_running_once_it_is_back(api: FakeApi, started: Any) -> None:
    launcher = started()
    api.want("dep_1:1", api.model("m1", ignores_sigterm=True))
    old = generate(api.until_serving("dep_1:1")["address"])["pid"]
    launcher.kill()
    assert runs(old)
    api.reports.clear()
    launcher.start()
    now = api.until_serving("dep_1:1")
    assert not runs(old)
    assert generate(now["address"])["pid"] != old
    assert "leftover_ended" in launcher.events()
    assert launcher.events().count("model_fetched") == 1, "the cache is used again"


def test_a_pid_file_whose_number_belongs_to_another_process_harms_nobody(
    api: FakeApi, started: Any, tmp_path: Path
) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    pids = tmp_path / "cache/pids"
    pids.mkdir(parents=True)
    (pids / f"{other.pid}.pid").write_text(f"{other.pid} 12345\n")
    (pids / "broken.pid").write_text("?")
    started()
    api.until(lambda now: now["state"] == "empty")
    assert other.poll() is None
    assert list(pids.iterdir()) == []
    other.kill()
    other.wait()


def test_sigterm_says_that_it_leaves_answers_what_is_under_way_and_ends_its_servers(api: FakeApi, started: Any) -> None:
    launcher = started()
    api.want("dep_1:1", api.model("m1", answer="slow", answer_after=1.5))
    address = api.until_serving("dep_1:1")["address"]
    answers: list[str] = []
    client = threading.Thread(target=lambda: answers.append(generate(address)["generated_text"]))
    client.start()
    time.sleep(0.3)
    assert launcher.stop() == 0
    client.join()
    assert answers == ["slow"]
    leaving = [report for report in api.reports if report["leaving"]]
    assert len(leaving) == 2
    assert leaving[-1]["places"][0]["state"] == "empty"
    with pytest.raises(httpx2.TransportError):
        generate(address)
    assert list((launcher.folder / "pids").iterdir()) == []


def test_a_server_that_does_not_heed_sigterm_is_killed_after_its_time(api: FakeApi, started: Any) -> None:
    launcher = started("--stop-seconds", "1")
    api.want("dep_1:1", api.model("m1", ignores_sigterm=True))
    pid = generate(api.until_serving("dep_1:1")["address"])["pid"]
    assert launcher.stop() == 0
    assert not runs(pid)


def test_two_launchers_do_not_share_a_cache(api: FakeApi, started: Any, tmp_path: Path) -> None:
    started()
    api.until(lambda now: now["state"] == "empty")
    second = Launcher(api, tmp_path / "cache")
    assert second.process.wait(20) == 1
    assert "another launcher runs over" in second.said()


# GPUs.


def test_a_server_sees_the_gpus_that_it_was_given_and_no_others(api: FakeApi, started: Any) -> None:
    started("--kind", "tgi", "--gpus-per-place", "2", MULTIFACET_GPUS="4", MULTIFACET_GPU_HOST="big")
    api.want("dep_1:1", api.model("m1"), devices=[1, 3])
    told = generate(api.until_serving("dep_1:1")["address"])
    assert told["devices"] == "1,3"
    assert told["rest"][-2:] == ["--num-shard", "2"]
    report = api.reports[-1]
    assert (report["host"], report["devices"], report["gpus_per_place"]) == ("big", [0, 1, 2, 3], 2)


def test_gpus_are_given_up_before_their_lease_can_have_run_out(api: FakeApi, started: Any) -> None:
    launcher = started("--kind", "tgi", "--gpus-per-place", "1", MULTIFACET_GPUS="1")
    api.give_up_seconds = 1.0
    api.want("dep_1:1", api.model("m1"), devices=[0])
    pid = generate(api.until_serving("dep_1:1")["address"])["pid"]
    api.away = True
    wait_for(lambda: not runs(pid))
    assert "gpus_given_up" in launcher.events()
    api.away = False
    api.until_serving("dep_1:1")


def test_a_launcher_with_gpus_starts_nothing_before_the_api_has_answered(api: FakeApi, started: Any) -> None:
    launcher = started("--kind", "tgi", "--gpus-per-place", "1", MULTIFACET_GPUS="1")
    api.want("dep_1:1", api.model("m1"), devices=[0])
    api.until_serving("dep_1:1")
    launcher.stop()
    api.away = True
    launcher.start()
    wait_for(lambda: launcher.events().count("api_trouble") >= 1)
    time.sleep(0.5)
    assert launcher.events().count("server_started") == 1


def test_a_machine_without_gpus_is_told_what_to_set(api: FakeApi, tmp_path: Path) -> None:
    launcher = Launcher(api, tmp_path / "cache", "--kind", "tgi", MULTIFACET_GPUS="0")
    assert launcher.process.wait(20) == 2
    assert "MULTIFACET_GPUS" in launcher.said()


def test_placeholders_become_whole_words_and_values_are_not_filled_in_again() -> None:
    values = {"{model}": "/a b/{port}", "{port}": "80"}
    command = ["serve", "--model={model}", "{port}", "{arguments}", "{other}"]
    assert fill_in(command, values, ["--x", "{port}"]) == [
        "serve", "--model=/a b/{port}", "80", "--x", "{port}", "{other}",
    ]  # fmt: skip


def answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def wait_for(holds: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
