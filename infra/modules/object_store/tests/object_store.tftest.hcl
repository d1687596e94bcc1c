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
    condition     = module.server.service.name == "slipway-minio" && docker_volume.data.name == "slipway-minio"
    error_message = "Names do not follow the prefix."
  }

  assert {
    condition     = toset([for network in module.server.service.task_spec[0].networks_advanced : network.id]) == toset(["n1", "n2"])
    error_message = "It is not on exactly objects and s3."
  }

  assert {
    condition = toset([for mount in module.server.service.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"]) == toset([
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
    condition = module.server.service.task_spec[0].container_spec[0].env == tomap({
      MINIO_ROOT_PASSWORD_FILE = "/run/secrets/minio-root-password"
      MINIO_ROOT_USER_FILE     = "/run/secrets/minio-root-user"
    })
    error_message = "Its environment is not two names of files."
  }

  assert {
    condition = toset([
      for secret in module.server.service.task_spec[0].container_spec[0].secrets : secret.file_name
    ]) == toset(["minio-root-password", "minio-root-user"])
    error_message = "A secret is missing."
  }
}

run "its_limits_have_defaults" {
  assert {
    condition = module.server.service.task_spec[0].resources[0].limits[0] == {
      memory_bytes = 512 * 1024 * 1024
      nano_cpus    = 1000000000
    }
    error_message = "Its limits are not the defaults."
  }
}

run "nothing_is_published" {
  assert {
    condition     = length(module.server.service.endpoint_spec[0].ports) == 0
    error_message = "It publishes a port."
  }
}

run "an_update_stops_the_old_server_first_and_waits_for_the_new_ones_health" {
  assert {
    condition     = module.server.service.update_config[0].order == "stop-first"
    error_message = "Two servers would share the volume."
  }

  assert {
    condition     = module.server.service.task_spec[0].container_spec[0].healthcheck[0].test == tolist(["CMD", "probe", "9000", "/minio/health/live"])
    error_message = "Its health is not asked of the server itself."
  }
}

run "stopped_it_keeps_its_service_without_a_container" {
  variables {
    running = false
  }

  assert {
    condition     = module.server.service.mode[0].replicated[0].replicas == 0
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

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "minio-root-user" }
  }

  expect_failures = [var.secrets]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}
