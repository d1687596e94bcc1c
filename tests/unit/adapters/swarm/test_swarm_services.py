"""Where the endpoints of an installation are, as Terraform has named them."""

from pipelines.adapters.swarm.services import EndpointServices, services_of_stack
from pipelines.domain.release import Endpoint, Environment, Slot
from tests.support.world.stacks import FURTHER, FURTHER_KEY, further_model, stack

STAGING = Environment.STAGING


def test_the_services_of_the_default_model_are_those_of_an_installation_that_has_no_other() -> None:
    one, two = (services_of_stack(made, "churn") for made in (stack(), stack(environments=further_model())))
    assert one == {endpoint: services for endpoint, services in two.items() if endpoint.model == "churn"}
    assert one[Endpoint("churn", STAGING)] == EndpointServices(
        {slot: f"slipway-staging-{slot}" for slot in Slot}, backend="staging"
    )


def test_each_slot_of_a_further_model_is_a_service_of_its_own() -> None:
    found = services_of_stack(stack(environments=further_model()), "churn")
    assert set(found) == {Endpoint(model, each) for model in ("churn", FURTHER) for each in Environment}
    assert found[Endpoint(FURTHER, STAGING)] == EndpointServices(
        {slot: f"slipway-staging-{FURTHER_KEY}-{slot}" for slot in Slot}, backend=f"staging.{FURTHER_KEY}"
    )
    services = [name for each in found.values() for name in each.slots.values()]
    assert len(set(services)) == len(services) == 12
    assert len({each.backend for each in found.values()}) == 4
