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
    condition     = module.server.service.name == "slipway-postgres" && docker_volume.data.name == "slipway-postgres"
    error_message = "Names do not follow the prefix."
  }

  assert {
    condition     = module.server.service.mode[0].replicated[0].replicas == 1
    error_message = "It is not exactly one server."
  }

  assert {
    condition     = [for network in module.server.service.task_spec[0].networks_advanced : network.id] == ["n1"]
    error_message = "It is on another network than the database's."
  }

  assert {
    condition = toset([for mount in module.server.service.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"]) == toset([
      "tmpfs /tmp", "volume /data",
    ])
    error_message = "It writes elsewhere than to its volume and /tmp."
  }

  assert {
    condition     = module.server.service.task_spec[0].container_spec[0].env == tomap({ DATABASES = "mlflow slipway workflows" })
    error_message = "Its environment holds more than the names of the databases."
  }
}

run "it_gets_its_secrets" {
  assert {
    condition = toset([
      for secret in module.server.service.task_spec[0].container_spec[0].secrets : secret.file_name
    ]) == toset(["mlflow-database", "postgres", "slipway-database", "slipway-owner", "workflows-database"])
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
    condition     = module.server.service.task_spec[0].container_spec[0].healthcheck[0].test == tolist(["CMD", "pg_isready", "--quiet", "--host", "127.0.0.1"])
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

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "postgres" }
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
