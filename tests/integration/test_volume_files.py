"""Files of a volume through a container that never starts."""

from pathlib import Path

import docker
from testcontainers.core.labels import SESSION_ID

from pipelines.adapters.backup.volume_files import VolumeFiles
from pipelines.adapters.swarm.engine import DockerEngine
from tests.support.containers.engine import ENGINE_URL, engine, images, make_volume

__all__ = ["engine", "images"]


def test_a_folder_that_was_put_is_taken_without_what_is_being_made(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    prefix = f"slipway-volume-{SESSION_ID[:8]}"
    volume = VolumeFiles(DockerEngine(ENGINE_URL), prefix, make_volume(engine), image=images["control"])
    bundles = tmp_path / "bundles"
    (bundles / "sha256-1").mkdir(parents=True)
    (bundles / "sha256-1" / "model.onnx").write_bytes(b"model")
    (bundles / ".partial-x").mkdir()
    (bundles / ".partial-x" / "model.onnx").write_bytes(b"half")
    volume.put(bundles)
    (tmp_path / "note").write_text("note")
    volume.put(tmp_path / "note")

    taken = tmp_path / "taken"
    taken.mkdir()
    volume.take(("bundles", "none", "note"), taken, tmp_path)

    found = sorted(str(path.relative_to(taken)) for path in taken.rglob("*") if path.is_file())
    assert found == ["bundles/sha256-1/model.onnx", "note"]
    assert engine.api.containers(all=True, filters={"label": f"slipway.prefix={prefix}"}) == []


def test_a_new_volume_and_what_was_put_there_belong_to_who_uses_it(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    name = make_volume(engine)
    (tmp_path / "note").write_text("note")
    VolumeFiles(DockerEngine(ENGINE_URL), f"slipway-volume-{SESSION_ID[:8]}", name, image=images["control"]).put(
        tmp_path / "note"
    )
    use = ["sh", "-c", 'test "$(cat /data/note)" = note && rm /data/note && touch /data/other']
    # Raises unless all of it ended well.
    engine.containers.run(
        images["control"], use, entrypoint=[], remove=True, network_mode="none", volumes={name: {"bind": "/data"}}
    )
