mock_provider "docker" {}

variables {
  image      = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  name       = "production"
  network_id = "n1"
  replicas   = 2
}

run "live_has_its_replicas_and_the_other_slots_none" {
  assert {
    condition     = docker_service.live.mode[0].replicated[0].replicas == 2
    error_message = "live has another number of replicas than asked for."
  }

  assert {
    condition     = { for slot, service in docker_service.idle : slot => service.mode[0].replicated[0].replicas } == { baseline = 0, trial = 0 }
    error_message = "trial or baseline is missing, or has replicas at rest."
  }

  assert {
    condition = { for slot, service in output.slots : slot => service.name } == {
      baseline = "slipway-production-baseline", live = "slipway-production-live", trial = "slipway-production-trial"
    }
    error_message = "Names do not follow prefix, environment and slot."
  }
}

run "a_replica_knows_its_stage_and_nothing_else" {
  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.task_spec[0].container_spec[0].env == tomap({ SLIPWAY_STAGE = "Production" })
    ])
    error_message = "A replica gets more than its stage."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      length(service.task_spec[0].container_spec[0].secrets) == 0 && length(service.task_spec[0].container_spec[0].configs) == 0
      && [for mount in service.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"] == ["tmpfs /tmp"]
    ])
    error_message = "A replica gets a secret, a file or a volume."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      [for network in service.task_spec[0].networks_advanced : network.id] == ["n1"]
    ])
    error_message = "A replica is on another network than its environment's."
  }
}

run "every_slot_is_confined" {
  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) : alltrue([
        for spec in service.task_spec[0].container_spec :
        spec.user == "10001:10001" && spec.read_only && spec.cap_drop == tolist(["ALL"]) && spec.cap_add == null
      ])
    ])
    error_message = "A replica is root, or may write its root file system, or has a capability."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.task_spec[0].resources[0].limits[0] == { memory_bytes = 512 * 1024 * 1024, nano_cpus = 1000000000 }
    ])
    error_message = "The limits of a replica are not the defaults."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.task_spec[0].log_driver[0] == { name = "json-file", options = tomap({ max-file = "3", max-size = "10m" }) }
    ])
    error_message = "The log of a replica may fill the disk."
  }
}

run "nothing_is_published" {
  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.endpoint_spec[0].mode == "dnsrr" && length(service.endpoint_spec[0].ports) == 0
    ])
    error_message = "A slot publishes a port or has a virtual address."
  }
}

run "a_roll_starts_the_new_before_it_stops_the_old" {
  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) : service.update_config[0] == {
        delay = "0s", failure_action = "pause", max_failure_ratio = "0.0", monitor = "3s", order = "start-first", parallelism = 1
      }
    ])
    error_message = "A roll would lose requests, or go on after a failure."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.task_spec[0].container_spec[0].stop_grace_period == "20s" && length(service.converge_config) == 1
    ])
    error_message = "A replica has no time to drain, or Terraform would not wait for it."
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) : alltrue([
        for check in service.task_spec[0].container_spec[0].healthcheck :
        check.interval == "2s" && check.retries == 3 && check.test == tolist(["CMD", "probe", "8000", "/health"])
      ])
    ])
    error_message = "The health check is not the measured one."
  }
}

run "a_release_is_left_alone" {
  variables {
    image    = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
    replicas = 3
  }

  assert {
    condition = alltrue([
      for service in concat([docker_service.live], values(docker_service.idle)) :
      service.task_spec[0].container_spec[0].image == "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    ])
    error_message = "Terraform changed the image of a slot that exists."
  }

  assert {
    condition     = docker_service.live.mode[0].replicated[0].replicas == 3
    error_message = "The shape did not follow."
  }
}

run "stopped_every_slot_stays_as_a_service" {
  variables {
    running = false
  }

  assert {
    condition     = docker_service.live.mode[0].replicated[0].replicas == 0 && length(docker_service.idle) == 2
    error_message = "live still runs, or a service is gone."
  }
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    name = "canary"
  }

  expect_failures = [var.name]
}

run "no_replica_is_refused" {
  command = plan

  variables {
    replicas = 0
  }

  expect_failures = [var.replicas]
}

run "half_a_replica_is_refused" {
  command = plan

  variables {
    replicas = 1.5
  }

  expect_failures = [var.replicas]
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

run "too_little_cpu_is_refused" {
  command = plan

  variables {
    limits = { cpus = 0.05 }
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
