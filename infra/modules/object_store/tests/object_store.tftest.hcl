mock_provider "docker" {}

variables {
  image    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks = { objects = "n1", s3 = "n2" }
  secrets = {
    "minio-root-password" = { id = "sssssssssssssssssssssss00", name = "slipway-minio-root-password" }
    "minio-root-user"     = { id = "sssssssssssssssssssssss01", name = "slipway-minio-root-user" }
  }
}

run "it_is_one_server_on_its_volume_in_two_networks" {
  assert {
    condition     = docker_service.object_store.name == "slipway-minio" && docker_volume.data.name == "slipway-minio"
    error_message = "Names do not follow the prefix."
  }

  assert {
    condition     = toset([for network in docker_service.object_store.task_spec[0].networks_advanced : network.id]) == toset(["n1", "n2"])
    error_message = "It is not on exactly objects and s3."
  }

  assert {
    condition = toset([for mount in docker_service.object_store.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"]) == toset([
      "tmpfs /tmp", "volume /data",
    ])
    error_message = "It writes elsewhere than to its volume and /tmp."
  }

  assert {
    condition     = output.endpoint == "http://slipway-minio:9000"
    error_message = "Its endpoint is not that of the service."
  }
}

run "its_root_login_comes_from_files" {
  assert {
    condition = docker_service.object_store.task_spec[0].container_spec[0].env == tomap({
      MINIO_ROOT_PASSWORD_FILE = "/run/secrets/minio-root-password"
      MINIO_ROOT_USER_FILE     = "/run/secrets/minio-root-user"
    })
    error_message = "Its environment is not two names of files."
  }

  assert {
    condition = toset([
      for secret in docker_service.object_store.task_spec[0].container_spec[0].secrets :
      "${secret.file_name} ${secret.file_uid} ${format("%o", secret.file_mode)}"
    ]) == toset(["minio-root-password 10001 400", "minio-root-user 10001 400"])
    error_message = "A secret is missing, or others can read it."
  }
}

run "the_container_is_confined" {
  assert {
    condition = alltrue([
      for spec in docker_service.object_store.task_spec[0].container_spec :
      spec.user == "10001:10001" && spec.read_only && spec.cap_drop == tolist(["ALL"]) && spec.cap_add == null
    ])
    error_message = "It is root, or may write its root file system, or has a capability."
  }

  assert {
    condition = docker_service.object_store.task_spec[0].resources[0].limits[0] == {
      memory_bytes = 512 * 1024 * 1024
      nano_cpus    = 1000000000
    }
    error_message = "Its limits are not the defaults."
  }

  assert {
    condition = docker_service.object_store.task_spec[0].log_driver[0] == {
      name    = "json-file"
      options = tomap({ max-file = "3", max-size = "10m" })
    }
    error_message = "Its log may fill the disk."
  }
}

run "nothing_is_published" {
  assert {
    condition     = docker_service.object_store.endpoint_spec[0].mode == "dnsrr" && length(docker_service.object_store.endpoint_spec[0].ports) == 0
    error_message = "It publishes a port or has a virtual address."
  }
}

run "an_update_waits_for_health_and_stops_at_a_failure" {
  assert {
    condition = alltrue([
      for update in docker_service.object_store.update_config :
      update.order == "stop-first" && update.parallelism == 1 && update.failure_action == "pause" && update.max_failure_ratio == "0.0"
    ])
    error_message = "The update policy is not stop-first, one by one, pausing at the first failure."
  }

  assert {
    condition     = length(docker_service.object_store.update_config) == 1 && length(docker_service.object_store.converge_config) == 1
    error_message = "Terraform would not wait for the service, or has no update policy for it."
  }

  assert {
    condition     = length(docker_service.object_store.task_spec[0].container_spec[0].healthcheck[0].test) > 1
    error_message = "It has no health check."
  }

  assert {
    condition     = docker_service.object_store.task_spec[0].restart_policy[0].condition == "any" && docker_service.object_store.task_spec[0].restart_policy[0].window == "0s"
    error_message = "It is not started again when it ends."
  }
}

run "stopped_it_keeps_its_service_without_a_container" {
  variables {
    running = false
  }

  assert {
    condition     = docker_service.object_store.mode[0].replicated[0].replicas == 0
    error_message = "It still runs."
  }
}

run "the_database_network_is_refused" {
  command = plan

  variables {
    networks = { objects = "n1", s3 = "n2", database = "n3" }
  }

  expect_failures = [var.networks]
}

run "a_secret_value_in_the_place_of_an_id_is_refused" {
  command = plan

  variables {
    secrets = merge(var.secrets, { minio-root-user = { id = "hunter2", name = "x" } })
  }

  expect_failures = [var.secrets]
}

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "minio-root-user" }
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
