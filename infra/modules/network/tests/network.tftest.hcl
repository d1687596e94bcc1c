mock_provider "docker" {
  mock_data "docker_network" {
    defaults = {
      ipam_config = [{ subnet = "10.0.9.0/24", ip_range = "", gateway = "10.0.9.1", aux_address = {} }]
    }
  }
}

variables {
  environments = ["production", "staging"]
}

run "every_network_is_an_attachable_overlay_with_a_name_from_the_prefix" {
  assert {
    condition = alltrue([
      for name, network in docker_network.network :
      network.name == "slipway-${name}" && network.driver == "overlay" && network.attachable
    ])
    error_message = "A network is not slipway-<name>, overlay and attachable."
  }

  assert {
    condition = toset(keys(docker_network.network)) == toset([
      "control", "database", "images", "load-production", "load-staging", "objects", "production", "publish-edge",
      "publish-images", "s3", "staging",
    ])
    error_message = "The set of networks changed: ${join(", ", keys(docker_network.network))}."
  }
}

run "what_goes_from_node_to_node_is_encrypted" {
  assert {
    condition     = alltrue([for network in docker_network.network : network.options == tomap({ encrypted = "" })])
    error_message = "A stranger could send into a network, or read it."
  }
}

run "encryption_can_be_left_to_others" {
  state_key = "open"

  variables {
    encrypted = false
  }

  assert {
    condition     = alltrue([for network in docker_network.network : !contains(keys(coalesce(network.options, {})), "encrypted")])
    error_message = "A network is encrypted all the same."
  }
}

run "only_the_networks_that_publish_have_a_way_out" {
  assert {
    condition = toset([for name, network in docker_network.network : name if !network.internal]) == toset([
      "publish-edge", "publish-images",
    ])
    error_message = "Networks with a way out: ${join(", ", [for name, n in docker_network.network : name if !n.internal])}."
  }
}

run "the_output_has_the_subnet_that_the_engine_gave" {
  assert {
    condition     = alltrue([for network in output.networks : network.subnet == "10.0.9.0/24"])
    error_message = "An output has no subnet."
  }
}

run "an_external_object_store_can_be_reached_and_has_no_network_of_its_own" {
  variables {
    external = { object_store = true }
  }

  assert {
    condition     = !docker_network.network["objects"].internal && !contains(keys(docker_network.network), "s3")
    error_message = "objects has no way out, or s3 is still there."
  }

  assert {
    condition     = docker_network.network["images"].internal && docker_network.network["database"].internal
    error_message = "A network that has nothing to do with objects got a way out."
  }
}

run "an_external_image_registry_can_be_reached_and_publishes_nothing_here" {
  variables {
    external = { image_registry = true }
  }

  assert {
    condition     = !docker_network.network["images"].internal && !contains(keys(docker_network.network), "publish-images")
    error_message = "images has no way out, or publish-images is still there."
  }
}

run "a_network_without_a_subnet_stops_the_apply" {
  override_data {
    target = data.docker_network.network["control"]
    values = { ipam_config = [] }
  }

  expect_failures = [data.docker_network.network["control"]]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}

run "a_prefix_that_ends_with_a_hyphen_is_refused" {
  command = plan

  variables {
    prefix = "slipway-"
  }

  expect_failures = [var.prefix]
}

run "an_environment_with_a_hyphen_is_refused" {
  command = plan

  variables {
    environments = ["pre-production"]
  }

  expect_failures = [var.environments]
}
