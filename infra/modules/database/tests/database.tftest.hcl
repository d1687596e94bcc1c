mock_provider "docker" {}

variables {
  image    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks = { database = "n1" }
  secrets = {
    "mlflow-database"    = { id = "sssssssssssssssssssssss00", name = "slipway-mlflow-database" }
    "postgres"           = { id = "sssssssssssssssssssssss01", name = "slipway-postgres" }
    "slipway-database"   = { id = "sssssssssssssssssssssss02", name = "slipway-slipway-database" }
    "slipway-owner"      = { id = "sssssssssssssssssssssss03", name = "slipway-slipway-owner" }
    "workflows-database" = { id = "sssssssssssssssssssssss04", name = "slipway-workflows-database" }
  }
}

run "it_is_one_server_on_its_volume_in_the_database_network" {
  assert {
    condition     = docker_service.database.name == "slipway-postgres" && docker_volume.data.name == "slipway-postgres"
    error_message = "Names do not follow the prefix."
  }

  assert {
    condition     = docker_service.database.mode[0].replicated[0].replicas == 1
    error_message = "It is not exactly one server."
  }

  assert {
    condition     = [for network in docker_service.database.task_spec[0].networks_advanced : network.id] == ["n1"]
    error_message = "It is on another network than the database's."
  }

  assert {
    condition = toset([for mount in docker_service.database.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"]) == toset([
      "tmpfs /tmp", "volume /data",
    ])
    error_message = "It writes elsewhere than to its volume and /tmp."
  }

  assert {
    condition     = docker_service.database.task_spec[0].container_spec[0].env == tomap({ DATABASES = "mlflow slipway workflows" })
    error_message = "Its environment holds more than the names of the databases."
  }
}

run "secrets_are_files_for_its_user_only" {
  assert {
    condition = toset([
      for secret in docker_service.database.task_spec[0].container_spec[0].secrets :
      "${secret.file_name} ${secret.file_uid} ${format("%o", secret.file_mode)}"
      ]) == toset([
      "mlflow-database 10001 400", "postgres 10001 400", "slipway-database 10001 400", "slipway-owner 10001 400",
      "workflows-database 10001 400",
    ])
    error_message = "A secret is missing, or others can read it."
  }
}

run "the_container_is_confined" {
  assert {
    condition = alltrue([
      for spec in docker_service.database.task_spec[0].container_spec :
      spec.user == "10001:10001" && spec.read_only && spec.cap_drop == tolist(["ALL"]) && spec.cap_add == null
    ])
    error_message = "It is root, or may write its root file system, or has a capability."
  }

  assert {
    condition = docker_service.database.task_spec[0].resources[0].limits[0] == {
      memory_bytes = 512 * 1024 * 1024
      nano_cpus    = 1000000000
    }
    error_message = "Its limits are not the defaults."
  }

  assert {
    condition = docker_service.database.task_spec[0].log_driver[0] == {
      name    = "json-file"
      options = tomap({ max-file = "3", max-size = "10m" })
    }
    error_message = "Its log may fill the disk."
  }
}

run "nothing_is_published" {
  assert {
    condition     = docker_service.database.endpoint_spec[0].mode == "dnsrr" && length(docker_service.database.endpoint_spec[0].ports) == 0
    error_message = "It publishes a port or has a virtual address."
  }
}

run "an_update_waits_for_health_and_stops_at_a_failure" {
  assert {
    condition = alltrue([
      for update in docker_service.database.update_config :
      update.order == "stop-first" && update.parallelism == 1 && update.failure_action == "pause" && update.max_failure_ratio == "0.0"
    ])
    error_message = "The update policy is not stop-first, one by one, pausing at the first failure."
  }

  assert {
    condition     = length(docker_service.database.update_config) == 1 && length(docker_service.database.converge_config) == 1
    error_message = "Terraform would not wait for the service, or has no update policy for it."
  }

  assert {
    condition     = length(docker_service.database.task_spec[0].container_spec[0].healthcheck[0].test) > 1
    error_message = "It has no health check."
  }

  assert {
    condition     = docker_service.database.task_spec[0].restart_policy[0].condition == "any" && docker_service.database.task_spec[0].restart_policy[0].window == "0s"
    error_message = "It is not started again when it ends."
  }
}

run "stopped_it_keeps_its_service_without_a_container" {
  variables {
    running = false
  }

  assert {
    condition     = docker_service.database.mode[0].replicated[0].replicas == 0
    error_message = "It still runs."
  }
}

run "another_set_of_databases_needs_their_secrets" {
  command = plan

  variables {
    databases = ["mlflow", "slipway", "more"]
  }

  expect_failures = [var.secrets]
}

run "a_database_with_a_hyphen_is_refused" {
  command = plan

  variables {
    databases = ["ml-flow"]
  }

  expect_failures = [var.databases]
}

run "an_owner_of_no_database_is_refused" {
  command = plan

  variables {
    owned = ["other"]
  }

  expect_failures = [var.owned]
}

run "another_network_is_refused" {
  command = plan

  variables {
    networks = { database = "n1", control = "n2" }
  }

  expect_failures = [var.networks]
}

run "a_secret_value_in_the_place_of_an_id_is_refused" {
  command = plan

  variables {
    secrets = merge(var.secrets, { postgres = { id = "hunter2", name = "x" } })
  }

  expect_failures = [var.secrets]
}

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "postgres" }
  }

  expect_failures = [var.secrets]
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

run "a_placement_that_is_no_constraint_is_refused" {
  command = plan

  variables {
    placement = ["somewhere"]
  }

  expect_failures = [var.placement]
}

run "no_placement_is_refused" {
  command = plan

  variables {
    placement = []
  }

  expect_failures = [var.placement]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}
