mock_provider "docker" {}

variables {
  image      = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  name       = "production"
  network_id = "n1"
  replicas   = 2
}

run "a_further_model_has_slots_of_its_own" {
  variables {
    model = { key = "tenure", name = "Tenure.Model" }
  }

  assert {
    condition = { for slot, service in output.slots : slot => service.name } == {
      baseline = "slipway-production-tenure-baseline", live = "slipway-production-tenure-live", trial = "slipway-production-tenure-trial"
    }
    error_message = "Names do not follow prefix, environment, key and slot."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      contains([for label in service.labels : "${label.label}=${label.value}"], "slipway.model=Tenure.Model")
    ])
    error_message = "Nobody could tell whose slots they are."
  }
}

run "the_longest_names_are_names_of_services" {
  command = plan

  variables {
    model  = { key = "eighteen-letters-1", name = "Tenure.Model" }
    prefix = "twenty-four-letters-long"
  }

  assert {
    condition     = max([for service in docker_service.idle : length(service.name)]...) <= 63
    error_message = "Swarm would refuse the name of a service."
  }
}

run "a_key_that_is_too_long_is_refused" {
  command = plan

  variables {
    model = { key = "nineteen-letters-12", name = "m" }
  }

  expect_failures = [var.model]
}
