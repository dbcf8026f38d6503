"""deploy-model and infer on a virtual cluster: what the nodes' own tools and the CPU's interpreter say of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import heads
import numpy as np
import pytest
import terminal
from ai_edge_litert.interpreter import Interpreter
from commands import SHARED, Cluster
from jobs import OWN, everywhere, progress, read, so_far, wait
from PIL import Image

from clusteradm.lab.digits import data

pytestmark = pytest.mark.lab

MODEL = Path(data.__file__).with_name("digits.tflite")
LABELS = MODEL.with_name("labels.txt")
SMALL = Path(__file__).resolve().parents[1] / "fixtures" / "tflite"


def on_cpu(model: Path, pictures: list[Path]) -> list[int | None]:
    """The class that the interpreter on this machine's CPU gives each picture."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, channels = entry["shape"]
    found: list[int | None] = []
    for path in pictures:
        try:
            image = Image.open(path)
            image.draft(None, (width, height))
            image = image.convert({1: "L", 3: "RGB"}[int(channels)])
        except OSError:
            found.append(None)
            continue
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        interpreter.set_tensor(entry["index"], np.asarray(image).reshape(entry["shape"]))
        interpreter.invoke()
        found.append(int(np.argmax(interpreter.get_tensor(result["index"]))))
    return found


def test_every_node_has_the_model_as_it_was_sent(cluster: Cluster, digits_model: Path) -> None:
    # Again, as a person would do it by mistake: nothing changes.
    answer = json.loads(cluster.run("deploy-model", digits_model, "--name", "digits", "--labels", LABELS, "--json")[0])
    assert (answer["state"], sorted(answer["verified"])) == ("unchanged", cluster.nodes)
    path = answer["path"]
    digest = hashlib.sha256(digits_model.read_bytes()).hexdigest()
    for node in cluster.nodes:
        assert cluster.on(node, "sha256sum", f"{path}/model.tflite").split()[0] == digest
        assert cluster.on(node, "cat", f"{path}/labels.txt").split() == LABELS.read_text().split()
        modes = cluster.on(node, "stat", "-c", "%U %a", path, f"{path}/model.tflite").splitlines()
        assert modes == ["root 555", "root 444"]
        manifest = json.loads(cluster.on(node, "cat", f"{path}/manifest.json"))
        assert (manifest["sha256"], manifest["version"]) == (digest, answer["version"])


def test_versions_count_up_and_what_is_no_model_leaves_nothing(
    cluster: Cluster, digits_model: Path, tmp_path: Path
) -> None:
    name = f"counted-{os.getpid()}"
    cluster.run("deploy-model", digits_model, "--name", name)
    cluster.run("deploy-model", digits_model, "--name", name, "--labels", LABELS)
    refused = cluster.run("deploy-model", digits_model, "--name", name, "--version", 2, expect=2)[1]
    assert "version 2 of" in refused
    assert cluster.on("head", "ls", "-A", f"{SHARED}/models/{name}").split() == ["1", "2"]
    before = cluster.on("head", "find", f"{SHARED}/models", "/var/lib/clusteradm/blobs")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(digits_model.read_bytes()[:40_000])
    assert "damaged or truncated" in cluster.run("deploy-model", cut, "--name", "cut", expect=2)[1]
    assert cluster.on("head", "find", f"{SHARED}/models", "/var/lib/clusteradm/blobs") == before


@pytest.mark.alone
def test_a_job_on_one_rank_and_on_every_rank(
    cluster: Cluster, digits_model: Path, pictures: Path, tmp_path: Path
) -> None:
    files = sorted(pictures.iterdir())
    truth = {row["input"]: row["label"] for row in csv.DictReader((pictures.parent / "truth.csv").open())}
    expected = on_cpu(MODEL, files)
    right = sum(str(answer) == truth.get(path.name) for path, answer in zip(files, expected, strict=True))
    documents, answers = {}, {}
    for ranks in (1, len(cluster.nodes)):
        output = tmp_path / f"{ranks}.jsonl"
        job = ("--model", "digits", pictures, "--truth", pictures.parent / "truth.csv", "--output", output)
        page = ("--report", tmp_path / "report.html") if ranks > 1 else ()
        documents[ranks] = cluster.infer(*job, "--ranks", ranks, *page, expect=3)
        results = read(output)
        assert [(line["index"], line["input"]) for line in results] == [(n, path.name) for n, path in enumerate(files)]
        answers[ranks] = results
    for ranks, document in documents.items():
        assert [line["top"][0]["class"] if "top" in line else None for line in answers[ranks]] == expected
        assert (document["state"], document["images"], document["errors"]) == ("complete", len(files), 1)
        assert (document["accuracy"]["labelled"], document["accuracy"]["right"]) == (len(truth), right)
        assert len(document["ranks"]) == ranks
        assert sum(rank["images"] for rank in document["ranks"]) == len(files)
        # A simulated TPU says so, wherever it shows.
        assert all("SIMULATED" in device for device in document["devices"])
    assert answers[1] == answers[len(cluster.nodes)]
    broken = next(line for line in answers[1] if line["input"] == "digit-0500x.png")
    assert "not a picture that can be read" in broken["error"]
    every = documents[len(cluster.nodes)]
    assert {rank["host"] for rank in every["ranks"]} == set(cluster.nodes)
    # The demo holds the real figure; here other tests' leftovers may share the two cores.
    assert every["images_per_second"] / documents[1]["images_per_second"] > 0.6 * len(cluster.nodes)
    # On the head: each input in the journal once, and the ranks were the cluster user's.
    folder = f"{SHARED}/jobs/{every['job']}"
    journal = [json.loads(line) for line in cluster.on("head", "cat", f"{folder}/journal.jsonl").splitlines()]
    assert sorted(result["i"] for line in journal for result in line["results"]) == list(range(len(files)))
    assert cluster.on("head", "stat", "-c", "%U", f"{folder}/journal.jsonl").strip() == "cluster"
    assert "inputs.pack" not in cluster.on("head", "ls", folder)
    # The timeline has each result once, and the page a series for each node and some of the pictures.
    timeline = json.loads(cluster.on("head", "cat", f"{OWN}/{every['job']}/run/timeline.json"))
    assert set(timeline["counts"]) == set(cluster.nodes) and sum(map(sum, timeline["counts"].values())) == len(files)
    assert all(rank["use"] and 0 < rank["use"]["tpu"] <= 1 for rank in every["ranks"])
    text = (tmp_path / "report.html").read_text()
    assert text.count("<polygon") == len(cluster.nodes) and text.count('src="data:image/jpeg') == 24
    assert "simulated: no figure here" in text and "not a picture that can be read" in text
    again = tmp_path / "again.html"
    cluster.run("job", "show", every["job"], "--report", again)
    assert again.read_text().count("<polygon") == len(cluster.nodes)


def test_one_tpu_and_two_are_compared(cluster: Cluster, digits_model: Path, tmp_path: Path) -> None:
    before = {job["job"] for job in json.loads(cluster.run("job", "list", "--json")[0])["jobs"]}
    page = tmp_path / "bench.html"
    words = ("--model", "digits", "--images", 600, "--tpus", 2, "--runs", 1, "--report", page, "--json")
    found = json.loads(cluster.run("bench", *words)[0])
    assert [step["tpus"] for step in found["steps"]] == [1, 2]
    one, two = found["steps"]
    assert two["speed_up"] == pytest.approx(two["images_per_second"] / one["images_per_second"], rel=0.01)
    assert len({host for host, _ in two["runs"][0]["ranks"]}) == 2 and len(one["runs"][0]["ranks"]) == 1
    # A simulated TPU answers after 2.6 ms, later on a busy machine, on which a board may be left out as well. Each was
    # measured alone on its board, and its temperature is the one that the lab shows.
    measured = {tpu["host"]: tpu for tpu in found["tpus"]}
    assert len(measured) >= 2 and measured.keys() <= set(cluster.nodes)
    assert all(tpu["milliseconds"] >= 2.5 for tpu in measured.values())
    warm = [celsius for tpu in measured.values() for celsius in tpu["celsius"] if celsius is not None]
    assert warm and all(20 < celsius < 80 for celsius in warm)
    assert found["simulated"] is True and "simulated: no figure here" in page.read_text()
    # No run is left behind.
    assert {job["job"] for job in json.loads(cluster.run("job", "list", "--json")[0])["jobs"]} == before


def test_a_job_is_watched_live(cluster: Cluster, digits_model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.concatenate([data.load().held_out.images] * 6))
    words = ["infer", "--model", "digits", tmp_path / "many.npy", "--output", tmp_path / "many.jsonl"]
    words += ["-i", cluster.lab.inventory, "--report", tmp_path / "report.html"]
    with terminal.command([sys.executable, "-m", "clusteradm", *map(str, words)], width=120) as shown:
        while shown.read(120):
            pass
        assert shown.finish() == 0
        drawn = shown.raw.decode()
    for text in ("waits for", "°C", "▒input", " left, ", " queued", *cluster.nodes):
        assert text in drawn, text
    assert "waits for" not in shown.screen.text and "the report is in" in shown.screen.text


def test_what_is_drained_gets_no_slot(cluster: Cluster, digits_model: Path, pictures: Path, tmp_path: Path) -> None:
    few = sorted(pictures.iterdir())[:20]
    address = cluster.on("w2", "sh", "-c", "lspci -Dn -d 1ac1:089a | cut -d' ' -f1").split()[0]
    job = ("--model", "digits", *few, "--output", tmp_path / "few.jsonl")
    cluster.run("drain", "w1", "w2:apex_0", "--reason", "of this test")
    try:
        listed = json.loads(cluster.run("drain", "--json")[0])["drains"]
        assert [(one["subject"], one["reason"]) for one in listed] == [
            ("w1", "of this test"),
            (f"w2:{address}", "of this test"),
        ]
        document = cluster.infer(*job)
        hostfile = cluster.on("head", "cat", f"{OWN}/{document['job']}/run/hostfile")
        # On a busy machine w3 may be left out as well, which is no matter of this test.
        assert {"head"} <= {rank["host"] for rank in document["ranks"]} <= {"head", "w3"}
        assert "w1" not in hostfile and "w2" not in hostfile
        assert "apex_9" in cluster.run("drain", "w2:apex_9", expect=2)[1]
    finally:
        cluster.run("undrain", "w1", f"w2:{address}")
    assert "w3 is not drained" in cluster.run("undrain", "w3", expect=2)[1]
    everywhere(cluster, *job)


def test_arrays_and_inputs_on_the_head(cluster: Cluster, digits_model: Path, pictures: Path, tmp_path: Path) -> None:
    images = data.load().held_out.images[:50]
    np.save(tmp_path / "some.npy", images)
    cluster.run("infer", "--model", "digits", tmp_path / "some.npy", "--output", tmp_path / "npy.jsonl", "--top", 1)
    names = [f"digit-{number:04}.png" for number in range(50)]
    expected = on_cpu(MODEL, [pictures / name for name in names])
    by_array = read(tmp_path / "npy.jsonl")
    assert [line["input"] for line in by_array] == [f"{tmp_path}/some.npy[{number}]" for number in range(50)]
    assert [line["top"][0]["class"] for line in by_array] == expected
    folder = f"{SHARED}/some-{os.getpid()}"
    cluster.on("head", "mkdir", "-m", "755", folder)
    for name in names[:3]:
        with (pictures / name).open("rb") as file:
            cluster.lab.exec("head", ["sh", "-c", f"cat > {folder}/{name}"], stdin=file)
    out, _ = cluster.run("infer", "--model", "digits", f"head:{Path(folder).name}", "--top", 1)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["input"], line["top"][0]["class"]) for line in lines] == list(zip(names[:3], expected, strict=False))


def _ranks(cluster: Cluster) -> list[str]:
    """The ranks that run anywhere, by the nodes' own ps."""
    return [
        f"{node}: {line}"
        for node in cluster.nodes
        for line in cluster.on(node, "ps", "-eo", "user:20,args").splitlines()
        if "clusteradm.node.job.rank" in line and "mpirun" not in line
    ]


def test_the_ranks_are_the_cluster_users_and_ctrl_c_ends_them(
    cluster: Cluster, long_job: tuple[subprocess.Popen[str], str]
) -> None:
    process, job = long_job
    running = _ranks(cluster)
    # Rank 0, and on every host a rank and its worker process.
    assert len(running) == 2 * len(cluster.nodes) + 1
    assert all(line.split()[1] == "cluster" for line in running)
    # A TPU that the cluster's own job has is well, is tried by nobody, and is not taken off its bus.
    document = cluster.health("--limit", "w1", expect=None)
    (tpu,) = [finding for finding in document["findings"] if finding["check"] == "tpu"]
    assert tpu["severity"] == "ok" and f"in use by job {job}" in tpu["detail"]
    refused = cluster.run("tpu", "reset", "w1:apex_0", expect=3)[1]
    assert f"in use by job {job} of this cluster; nothing was done" in refused
    process.send_signal(signal.SIGINT)
    assert process.wait(180) == 130
    assert process.stderr is not None
    assert f"job {job} is cancelled" in process.stderr.read()
    wait(lambda: _ranks(cluster) == [])
    unit = f"clusteradm-job-{job}"
    wait(lambda: cluster.on("head", "systemctl", "is-active", unit, check=False).strip() == "inactive")
    assert "results.jsonl" not in cluster.on("head", "ls", f"{SHARED}/jobs/{job}")


def test_inputs_that_a_model_cannot_do_are_named_and_the_others_delivered(cluster: Cluster, tmp_path: Path) -> None:
    forever = np.zeros((40, 4), np.float32)
    forever[[3, 31]] = 1.0
    ids = np.zeros((40, 4), np.int32)
    ids[[0, 39]] = 99
    for name, values, bad, why in (
        ("while_forever", forever, {3, 31}, "the model fails on it, twice: the inference did not end in 5 s"),
        ("gather_ids", ids, {0, 39}, "the model fails on it: gather index out of bounds"),
    ):
        cluster.run("deploy-model", SMALL / f"{name}.tflite", "--name", name.replace("_", "-"))
        np.save(tmp_path / f"{name}.npy", values)
        output = tmp_path / f"{name}.jsonl"
        job = ("infer", "--cpu", "--model", name.replace("_", "-"), tmp_path / f"{name}.npy", "--output", output)
        _, said = cluster.run(*job, expect=3)
        results = read(output)
        assert {line["index"] for line in results if "error" in line} == bad
        assert all(line["error"].startswith(why) for line in results if "error" in line)
        assert len(results) == 40
        assert f"2 of 40 inputs failed: {tmp_path}/{name}.npy[{min(bad)}]: {why}" in " ".join(said.split())


def test_a_model_with_state_answers_each_input_as_if_it_were_the_first(
    cluster: Cluster, compiled: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    model = Path(folder) / "keras_lstm_mnist_ptq.tflite"
    digits = data.load().held_out.images[:200].reshape(200, 28, 28)
    np.save(tmp_path / "digits.npy", digits)
    expected = []
    for picture in digits:
        interpreter = Interpreter(model_path=str(model), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        expected.append(int(np.argmax(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))))
    for name, path, options in (("lstm-cpu", model, ("--cpu",)), ("lstm", compiled(model), ())):
        cluster.run("deploy-model", path, "--name", name)
        output = tmp_path / f"{name}.jsonl"
        cluster.run("infer", "--model", name, tmp_path / "digits.npy", "--output", output, *options)
        assert [line["top"][0]["class"] for line in read(output)] == expected


def test_real_models_on_real_photographs(cluster: Cluster, compiled: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = os.environ.get("CLUSTERADM_TEST_DATA")
    if not folder:
        pytest.skip("CLUSTERADM_TEST_DATA names no folder with real models")
    real = Path(folder)
    photographs = sorted(real.glob("*.jpg"))
    assert photographs
    for name in ("mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq"):
        model = real / f"{name}.tflite"
        labels = ("--labels", real / "imagenet_labels.txt")
        cluster.run("deploy-model", compiled(model), "--name", "imagenet", *labels)
        output = tmp_path / f"{name}.jsonl"
        document = cluster.infer("--model", "imagenet", real, "--output", output)
        results = read(output)
        assert document["images"] == len(photographs)
        assert [line["top"][0]["class"] for line in results] == on_cpu(model, photographs)
        said = {line["input"]: line["top"][0]["label"] for line in results}
        assert said["parrot.jpg"].startswith("macaw")


def test_objects_and_a_map_in_the_pixels_of_each_picture(cluster: Cluster, tmp_path: Path) -> None:
    """Models whose answers are known, on the CPUs: of pictures in a tar file, drawn and as CSV."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (wide, high) in enumerate(((640, 480), (64, 64))):
        Image.new("RGB", (wide, high), (0, 0, 250)).save(folder / f"{number}.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(folder, "p")
    (tmp_path / "names.txt").write_text("person\ndog\n")
    for name, model in (("ssd", heads.ssd()), ("colours", heads.colours())):
        (tmp_path / f"{name}.tflite").write_bytes(model)
        cluster.run("deploy-model", tmp_path / f"{name}.tflite", "--name", name, "--labels", tmp_path / "names.txt")
    drawn = ("--annotate", tmp_path / "drawn", "--format", "csv", "--output", tmp_path / "r.csv")
    cluster.run("infer", "--cpu", "--model", "ssd", tmp_path / "photos.tar", *drawn)
    with (tmp_path / "r.csv").open() as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    tar = tmp_path / "photos.tar"
    assert rows == [
        (f"{tar}/p/0.png", "0", "", "0", "person", "0.9", "240", "120", "400", "360"),
        (f"{tar}/p/0.png", "0", "", "1", "dog", "0.7", "400", "60", "560", "180"),
        (f"{tar}/p/1.png", "1", "", "0", "person", "0.9", "24", "16", "40", "48"),
        (f"{tar}/p/1.png", "1", "", "1", "dog", "0.7", "40", "8", "56", "24"),
    ]
    assert Image.open(tmp_path / "drawn" / "000000-0.jpg").size == (640, 480)
    output = tmp_path / "maps.jsonl"
    cluster.run("infer", "--cpu", "--model", "colours", "--task", "segment", folder, "--output", output)
    for line, size in zip(read(output), ((640, 480), (64, 64)), strict=True):
        assert line["segments"] == [{"class": 2, "share": 1.0}]
        chart = Image.open(tmp_path / line["map"]["file"])
        assert chart.size == size and chart.getextrema() == (2, 2)


def _picture_files(pictures: Path, first: int, count: int) -> list[Path]:
    return [pictures / f"digit-{number:04}.png" for number in range(first, first + count)]


def test_what_comes_into_a_folder_is_a_result_once_whatever_ends(
    cluster: Cluster, digits_model: Path, pictures: Path, tmp_path: Path
) -> None:
    """A folder here, and at the same time one on the head into which a node writes by NFS."""
    incoming, output = tmp_path / "incoming", tmp_path / "r.jsonl"
    incoming.mkdir()
    camera = f"{SHARED}/camera-{os.getpid()}"
    words = ("infer", "--model", "digits", "--top", 1, "--ranks", 2)
    drawn = tmp_path / "drawn"
    here = (*words, "--watch", incoming, "--output", output, "--annotate", drawn, "--json")

    def come(first: int, count: int) -> None:
        for path in _picture_files(pictures, first, count):
            (incoming / f".{path.name}").write_bytes(path.read_bytes())
            (incoming / f".{path.name}").rename(incoming / path.name)

    def names() -> list[str]:
        return [line["input"] for line in so_far(output)]

    def photograph(first: int, count: int) -> None:
        shots = " ".join(path.name for path in _picture_files(pictures, first, count))
        script = f"for name in {shots}; do cat {camera}-shots/$name > {camera}/$name; done"
        cluster.on("w1", "runuser", "-u", "cluster", "--", "sh", "-c", script)

    with tarfile.open(tmp_path / "shots.tar", "w") as archive:
        for path in _picture_files(pictures, 0, 120):
            archive.add(path, path.name)
    make = f"mkdir -m 777 {camera} {camera}-shots && tar -C {camera}-shots -xf - && chmod 644 {camera}-shots/*"
    with (tmp_path / "shots.tar").open("rb") as file:
        cluster.lab.exec("head", ["sh", "-c", make], stdin=file)
    there = (*words, "--watch", f"head:{Path(camera).name}", "--output", tmp_path / "there.jsonl")
    photograph(0, 20)
    local = cluster.start(*here)
    remote = cluster.run(*there, "--detach", "--json")[0]
    job = json.loads(remote)["job"]
    come(0, 100)
    wait(lambda: len(names()) == 100)
    seconds = []
    for number in range(100, 105):
        began = time.monotonic()
        come(number, 1)
        wait(lambda: len(names()) == number + 1)  # noqa: B023 - called at once
        seconds.append(time.monotonic() - began)
    print("seconds from a file to its result:", sorted(seconds))
    # The command is killed, and what ends a job's parts on the head; files come all the while.
    local.kill()
    local.wait()
    photograph(20, 50)
    cluster.on("head", "pkill", "-KILL", "-f", f"job.supervisor {OWN}/")
    come(105, 200)
    photograph(70, 50)
    local = cluster.start(*here)
    wait(lambda: len(names()) == 305)
    other = cluster.start(*there)

    def fetched() -> list[str]:
        return [line["input"] for line in so_far(tmp_path / "there.jsonl")]

    wait(lambda: len(fetched()) == 120)
    for process in (local, other):
        process.send_signal(signal.SIGINT)
    out, said = local.communicate(timeout=180)
    assert (local.returncode, other.wait(180)) == (130, 130), said
    document = json.loads(out)
    assert "goes on" in said and (document["state"], document["images"], document["files"]) == ("complete", 200, 200)
    expected = on_cpu(MODEL, _picture_files(pictures, 0, 305))
    for path, count in ((output, 305), (tmp_path / "there.jsonl", 120)):
        lines = read(path)
        assert [line["index"] for line in lines] == list(range(count))
        found = {line["input"]: line["top"][0]["class"] for line in lines}
        assert [found[f"digit-{number:04}.png"] for number in range(count)] == expected[:count]
    pictures_of = [f"{line['index']:06d}-{Path(line['input']).stem}.jpg" for line in read(output)]
    assert sorted(path.name for path in drawn.iterdir()) == sorted(pictures_of)
    # Counted to the last, whatever was killed.
    for each, count in ((document["job"], 305), (job, 120)):
        assert json.loads(cluster.run("job", "show", each, "--json")[0])["status"]["images"] == count
    # Neither has left anything but its record on the head's disks, and the next command takes what is new alone.
    for each in (job, document["job"]):
        assert "feed" not in cluster.on("head", "ls", f"{SHARED}/jobs/{each}")
        assert cluster.on("head", "ls", f"{OWN}/{each}/run/found", f"{OWN}/{each}/run/feed").split("\n")[1] == ""
    photograph(0, 1)
    again = cluster.start(*there)
    wait(lambda: len(fetched()) == 121)
    again.send_signal(signal.SIGINT)
    assert again.wait(180) == 130 and fetched()[120] == "digit-0000.png"


def test_pipelines_give_what_the_whole_model_gives_also_where_a_stage_dies(
    cluster: Cluster, digits_model: Path, compiled: Callable[[Path], Path], tmp_path: Path
) -> None:
    cluster.run("model", "split", MODEL, "--segments", 2, "--output", tmp_path)
    segments = [compiled(tmp_path / f"digits_segment_{number}_of_2.tflite") for number in range(2)]
    cluster.run("deploy-model", digits_model, "--name", "cut", "--segments", *segments)
    images = data.load().held_out.images
    np.save(tmp_path / "few.npy", images)
    np.save(tmp_path / "many.npy", np.concatenate([images] * 4))
    whole, cut, killed = (tmp_path / f"{name}.jsonl" for name in ("whole", "cut", "killed"))
    cluster.infer("--model", "cut", tmp_path / "few.npy", "--output", whole)
    job = ("--model", "cut", "--pipeline", 2)
    # Each host has one TPU: what stages hand on goes over MPI.
    document = everywhere(cluster, *job, tmp_path / "few.npy", "--output", cut)
    assert cut.read_bytes() == whole.read_bytes()
    assert [(one["stage"], one["ranks"], one["images"]) for one in document["pipeline"]["stages"]] == [
        (0, 2, len(images)),
        (1, 2, len(images)),
    ]
    assert all(one["milliseconds"] > 2.5 for one in document["pipeline"]["stages"])
    places = {(rank["pipeline"], rank["stage"]): rank["host"] for rank in document["ranks"]}
    assert places == {(0, 0): "head", (0, 1): "w1", (1, 0): "w2", (1, 1): "w3"}
    refused = cluster.run("infer", "--model", "cut", "--pipeline", 3, tmp_path / "few.npy", expect=2)[1]
    assert "is split into 2 segments" in refused and "clusteradm model split" in refused
    bench = ("bench", "--model", "cut", "--pipeline", 2, "--runs", 1, "--images", 800, "--json")
    found = json.loads(cluster.run(*bench)[0])
    assert [(step["pipelines"], step["tpus"]) for step in found["steps"]] == [(1, 2), (2, 4)]
    assert found["steps"][1]["speed_up"] > 1.3 and found["pipeline"]["bottleneck"] in (0, 1)
    # The simulated segments take as long as the whole model.
    assert 0.5 < found["steps"][0]["by_whole"] < 1.3
    assert sorted(rank[0] for rank in found["steps"][1]["runs"][0]["ranks"]) == ["head", "w1", "w2", "w3"]

    process = cluster.start("infer", *job, tmp_path / "many.npy", "--output", killed)
    assert process.stderr is not None
    number = next(line for line in process.stderr if line.startswith("job ")).split()[1].rstrip(":")
    wait(lambda: progress(cluster, number).get("done", 0) > 200)
    # The worker process alone has a third word.
    cluster.on("w3", "pkill", "-KILL", "-f", f"job.rank .*{number} [0-9]+ [0-9]+$")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    log = cluster.run("job", "logs", number)[0]
    assert "was killed by SIGKILL" in log and "its pipeline begins anew" in log and "attempt 2" not in log
    assert "is the bottleneck" in out
    once = [json.loads(line)["top"] for line in whole.read_text().splitlines()]
    assert [line["top"] for line in read(killed)] == once * 4
