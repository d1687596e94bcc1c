"""Where versions come from and run from is kept while they go through the world."""

from pipelines.domain.events import EventKind
from pipelines.domain.lineage import OriginKind
from pipelines.domain.release import RunsFrom
from pipelines.governance.lineage import find_lineage, untraced
from tests.support.world.world import MODEL, World

IMAGES = RunsFrom(f"registry/release@sha256:{'1' * 64}", f"registry/app@sha256:{'2' * 64}")


def test_a_promoted_version_is_traced_with_the_images_that_it_ran_from(world: World) -> None:
    version = world.register()
    bundle = world.evaluated(version).bundle_digest
    assert bundle
    world.target.runs_from[bundle] = IMAGES
    world.promoted(version)

    found = find_lineage(world.records, version, model=MODEL)

    (traced,) = found.versions
    assert traced.provenance == world.services.bundles.body(bundle)["provenance"]
    assert {origin.value for origin in traced.origins if origin.kind is OriginKind.IMAGE} == {IMAGES.image}
    assert [v.pin.version for v in find_lineage(world.records, "2222222", model=MODEL).versions] == [version]
    assert found.history is not None
    released = [release.id for release in found.history.releases if release.id in traced.ran_from]
    outcome = next(
        e for e in world.records.audited(released[-1]) if e.action == "release.promotion" and e.phase == "outcome"
    )
    assert (outcome.detail["image"], outcome.detail["app_image"]) == (IMAGES.image, IMAGES.app_image)
    assert [given.person for given in found.history.approvals] == ["bob"]
    assert untraced(world.records) == []


def test_a_version_is_traced_once_however_often_it_is_evaluated(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    world.evaluated(version)

    assert len(world.records.events(kinds=[EventKind.VERSION_TRACED])) == 1
