mock_provider "docker" {}

variables {
  image    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks = { images = "n1", publish-images = "n2" }
}

run "on_loopback_it_is_a_container_that_publishes_on_that_address_only" {
  assert {
    condition     = length(docker_container.image_registry) == 1 && length(module.service) == 0
    error_message = "It is not one plain container."
  }

  assert {
    condition = [
      for port in docker_container.image_registry[0].ports : "${port.ip}:${port.external} ${port.internal}"
    ] == ["127.0.0.1:5001 5000"]
    error_message = "It publishes something else than 127.0.0.1:5001."
  }

  assert {
    condition     = output.pull == "127.0.0.1:5001" && output.push == "slipway-images:5000"
    error_message = "Engines or the executor would look elsewhere."
  }

  assert {
    condition     = toset([for network in docker_container.image_registry[0].networks_advanced : network.name]) == toset(["n1", "n2"])
    error_message = "It is not on exactly images and publish-images."
  }

  assert {
    condition     = [for mount in docker_container.image_registry[0].mounts : "${mount.type} ${mount.source} ${mount.target}"] == ["volume slipway-images /data"]
    error_message = "It does not keep its images in its volume."
  }
}

run "another_port_is_published_and_named" {
  variables {
    port = 5101
  }

  assert {
    condition     = docker_container.image_registry[0].ports[0].external == 5101 && output.pull == "127.0.0.1:5101"
    error_message = "The port is not the one asked for."
  }
}

run "the_container_is_confined" {
  assert {
    condition = alltrue([
      for container in docker_container.image_registry :
      container.user == "10001:10001" && container.read_only && container.security_opts == toset(["no-new-privileges:true"])
      && one(container.capabilities).drop == toset(["ALL"]) && one(container.capabilities).add == null
    ])
    error_message = "It is root, or may write its root file system, or has a capability, or may gain one."
  }

  assert {
    condition = alltrue([
      for container in docker_container.image_registry :
      container.cpus == "0.5" && container.memory == 256 && container.memory_swap == 256
    ])
    error_message = "Its limits are not the defaults."
  }

  assert {
    condition = alltrue([
      for container in docker_container.image_registry :
      container.log_driver == "json-file" && container.log_opts == tomap({ max-file = "3", max-size = "10m" })
    ])
    error_message = "Its log may fill the disk."
  }

  assert {
    condition = alltrue([
      for container in docker_container.image_registry :
      container.restart == "unless-stopped" && container.wait && length(container.healthcheck[0].test) > 1
    ])
    error_message = "It has no health check, or is not waited for, or not started again."
  }
}

run "stopped_there_is_no_container_and_the_volume_stays" {
  variables {
    running = false
  }

  assert {
    condition     = length(docker_container.image_registry) == 0 && docker_volume.data.name == "slipway-images"
    error_message = "It still runs, or its volume is gone."
  }
}

run "on_every_address_it_is_a_service_with_tls_and_logins" {
  variables {
    bind_address = "0.0.0.0"
    hostname     = "ml.example.com"
    tls = {
      certificate    = { id = "sssssssssssssssssssssss01", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss02", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss03", name = "slipway-registry-users" }
    }
  }

  assert {
    condition     = length(docker_container.image_registry) == 0 && length(module.service) == 1
    error_message = "It is not one service."
  }

  assert {
    condition = alltrue([
      for name in ["REGISTRY_AUTH", "REGISTRY_AUTH_HTPASSWD_PATH", "REGISTRY_HTTP_TLS_CERTIFICATE", "REGISTRY_HTTP_TLS_KEY"] :
      contains(keys(module.service[0].service.task_spec[0].container_spec[0].env), name)
    ])
    error_message = "It would answer in clear text, or anybody."
  }

  assert {
    condition = toset([
      for secret in module.service[0].service.task_spec[0].container_spec[0].secrets : secret.file_name
    ]) == toset(["registry-users", "tls.pem", "tls.pem.key"])
    error_message = "A secret is missing."
  }

  assert {
    condition = [
      for port in module.service[0].service.endpoint_spec[0].ports : "${port.publish_mode} ${port.published_port} ${port.target_port}"
    ] == ["host 5001 5001"]
    error_message = "It publishes something else than 5001 of its node, or another port inside."
  }

  assert {
    condition     = output.pull == "ml.example.com:5001" && output.push == "ml.example.com:5001"
    error_message = "The name in the certificate is not the one that is used."
  }

  assert {
    condition = toset(flatten([
      for network in module.service[0].service.task_spec[0].networks_advanced : network.aliases if network.id == "n1"
    ])) == toset(["ml.example.com"])
    error_message = "Inside, the name in the certificate leads elsewhere."
  }

  assert {
    condition     = module.service[0].service.update_config[0].order == "stop-first"
    error_message = "Two would want one port and one volume."
  }
}

run "every_address_without_tls_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
  }

  expect_failures = [var.bind_address]
}

run "tls_on_loopback_is_refused" {
  command = plan

  variables {
    tls = {
      certificate    = { id = "sssssssssssssssssssssss01", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss02", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss03", name = "slipway-registry-users" }
    }
  }

  expect_failures = [var.bind_address]
}

run "an_address_of_the_network_is_refused" {
  command = plan

  variables {
    bind_address = "192.168.1.5"
  }

  expect_failures = [var.bind_address]
}

run "a_certificate_in_the_place_of_its_secret_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
    tls = {
      certificate    = { id = "-----BEGIN CERTIFICATE-----", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss02", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss03", name = "slipway-registry-users" }
    }
  }

  expect_failures = [var.tls]
}

run "a_hostname_with_a_port_is_refused" {
  command = plan

  variables {
    hostname = "ml.example.com:5001"
  }

  expect_failures = [var.hostname]
}

run "a_privileged_port_is_refused" {
  command = plan

  variables {
    port = 443
  }

  expect_failures = [var.port]
}

run "an_environments_network_is_refused" {
  command = plan

  variables {
    networks = { images = "n1", publish-images = "n2", production = "n3" }
  }

  expect_failures = [var.networks]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    image = "slipway/app:latest"
  }

  expect_failures = [var.image]
}

run "an_image_with_half_a_digest_is_refused" {
  command = plan

  variables {
    image = "sha256:0123"
  }

  expect_failures = [var.image]
}

run "a_quarter_of_a_cpu_which_reads_back_differently_is_refused" {
  command = plan

  variables {
    limits = { cpus = 0.25 }
  }

  expect_failures = [var.limits]
}

run "too_little_memory_is_refused" {
  command = plan

  variables {
    limits = { memory_mb = 32 }
  }

  expect_failures = [var.limits]
}

run "half_a_megabyte_is_refused" {
  command = plan

  variables {
    limits = { memory_mb = 512.5 }
  }

  expect_failures = [var.limits]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}
