"""A job on three boards of which one loses its power, beside the same job undisturbed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from commands import Cluster
from jobs import everywhere

from clusteradm.lab.digits import data

MODEL = Path(data.__file__).with_name("digits.tflite")


def check(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Every result is right, also without w2. The document of the undisturbed job. `folder`: for files of this run."""
    digits = data.load().held_out
    images, truth, compiled = folder / "images", folder / "truth.csv", folder / "digits_edgetpu.tflite"
    data.write_images(digits, images, truth)
    for copy in range(9):
        shutil.copytree(images, folder / f"more-{copy}", copy_function=os.link)
    cluster.run("lab", "compile-model", MODEL, "--output", compiled)
    cluster.run("deploy-model", compiled, "--name", "digits", "--labels", MODEL.with_name("labels.txt"))
    whole = everywhere(cluster, "--model", "digits", images, "--truth", truth, "--output", folder / "whole.jsonl")
    assert whole["accuracy"]["right"] / len(digits.images) > 0.95

    many = [images, *(folder / f"more-{copy}" for copy in range(9))]
    job = cluster.start("infer", "--model", "digits", *many, "--output", folder / "lost.jsonl", "--json")
    journal = "cat /srv/cluster/jobs/*/journal.jsonl | wc -l"
    done = int(cluster.on("head", "sh", "-c", journal))
    try:
        while int(cluster.on("head", "sh", "-c", journal)) < done + 50:
            assert job.poll() is None
        cluster.lab.fault("w2", "power")
        out, err = job.communicate(timeout=300)
    finally:
        job.kill()
        cluster.lab.restore("w2")
    assert job.returncode == 0, err
    document = json.loads(out)
    assert document["attempts"] >= 2 and document["images"] == 10 * len(digits.images)
    answers = [json.loads(line)["top"][0]["label"] for line in (folder / "lost.jsonl").read_text().splitlines()]
    alone = [json.loads(line)["top"][0]["label"] for line in (folder / "whole.jsonl").read_text().splitlines()]
    assert answers == alone * 10
    return whole
